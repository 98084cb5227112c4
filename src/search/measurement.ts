import { randn } from '../numerics/rng.js';
import { difference, median } from '../numerics/stats.js';
import { type Branch, runChain } from '../pipeline/denoise.js';
import { latentElements } from '../pipeline/geometry.js';
import type { PipelineShape } from '../pipeline/open.js';
import type { SchedulerFactory } from '../pipeline/schedulers/index.js';
import type { PromptEmbeddings } from '../pipeline/text-encoder.js';
import type { Scratch } from '../util/scratch.js';
import { rounded } from './figures.js';
import type { Sample } from './samples.js';
import type { SwitchedTransformer } from './switched-transformer.js';

/** Forwards that are timed. */
const TIMED = 3;

export interface MeasurementContext {
  readonly prompts: readonly string[];
  readonly negativePrompt: string;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly shape: PipelineShape;
  readonly makeScheduler: SchedulerFactory;
  readonly embeddings: ReadonlyMap<string, PromptEmbeddings>;
  readonly scratch: Scratch;
  readonly signal?: AbortSignal | undefined;
}

/** Runs of a switched transformer along the sampling chains. */
export class Measurement {
  readonly #transformer: SwitchedTransformer;
  readonly #context: MeasurementContext;

  constructor(transformer: SwitchedTransformer, context: MeasurementContext) {
    this.#transformer = transformer;
    this.#context = context;
  }

  /** @returns wall time of a forward at the first step, ms */
  async timeForward(): Promise<number> {
    const { makeScheduler, steps } = this.#context;
    const [timestep] = makeScheduler(steps).timesteps as [number];
    const times: number[] = [];
    // The first one allocates.
    for (let i = 0; i <= TIMED; i++) {
      const start = performance.now();
      await this.#predict(0, 'cond', timestep, this.#noiseOf(0), []);
      times.push(performance.now() - start);
    }
    return median(times.slice(1));
  }

  /** Runs the chain of a prompt unquantized and keeps, of its samples, the latents and the predictions. */
  async record(prompt: number, samples: readonly Sample[], onForward: () => void): Promise<void> {
    const { makeScheduler, steps, guidance, shape, scratch } = this.#context;
    const wanted = new Set(samples.map(({ step, branch }) => `${step}-${branch}`));
    await runChain({
      scheduler: makeScheduler(steps),
      shape: shape.latents,
      noise: this.#noiseOf(prompt),
      guidance,
      text: { cond: this.#text(prompt, 'cond'), uncond: this.#text(prompt, 'uncond') },
      predict: async (calls) => {
        const velocities: Float32Array[] = [];
        for (const { step, branch, input } of calls) {
          const velocity = await this.#predict(prompt, branch, input.timestep, input.latents, []);
          velocities.push(velocity);
          onForward();
          if (!wanted.has(`${step}-${branch}`)) continue;
          await scratch.put(`latents-${prompt}-${step}`, input.latents);
          await scratch.put(`velocity-${prompt}-${step}-${branch}`, velocity);
        }
        return velocities;
      },
    });
  }

  /**
   * @param sample one that was recorded
   * @returns squared error over squared output where candidates are quantized
   */
  async noise({ prompt, step, branch, timestep }: Sample, quantized: readonly number[]): Promise<number> {
    const { scratch } = this.#context;
    const latents = await scratch.get(`latents-${prompt}-${step}`);
    const expected = await scratch.get(`velocity-${prompt}-${step}-${branch}`);
    const made = await this.#predict(prompt, branch, timestep, latents, quantized);
    const { signal, noise } = difference(expected, made);
    return rounded(noise / signal);
  }

  #predict(
    prompt: number,
    branch: Branch,
    timestep: number,
    latents: Float32Array,
    quantized: readonly number[],
  ): Promise<Float32Array> {
    this.#context.signal?.throwIfAborted();
    const input = { latents, shape: this.#context.shape.latents, timestep, text: this.#text(prompt, branch) };
    return this.#transformer.predict(input, quantized);
  }

  #noiseOf(prompt: number): Float32Array {
    return randn(this.#context.seed + prompt, latentElements(this.#context.shape.latents));
  }

  #text(prompt: number, branch: Branch): PromptEmbeddings {
    const { prompts, negativePrompt, embeddings } = this.#context;
    return embeddings.get(branch === 'cond' ? (prompts[prompt] as string) : negativePrompt) as PromptEmbeddings;
  }
}
