import { deriveSeed, randn } from '../numerics/rng.js';
import { type Difference, difference } from '../numerics/stats.js';
import { type Branch, branchesAt, type Denoiser, runChain } from '../pipeline/denoise.js';
import { type LatentShape, latentElements } from '../pipeline/geometry.js';
import type { SchedulerFactory } from '../pipeline/schedulers/index.js';
import type { PromptEmbeddings } from '../pipeline/text-encoder.js';
import type { Scratch } from '../util/scratch.js';

/** One video to make: a prompt and the seed of its noise. */
export interface Take {
  readonly prompt: string;
  readonly seed: number;
}

/** A clip in latent units, with the prompt that describes it. */
export interface LatentClip {
  readonly prompt: string;
  readonly latents: Float32Array;
}

export interface RunContext {
  readonly shape: LatentShape;
  readonly makeScheduler: SchedulerFactory;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly embeddings: ReadonlyMap<string, PromptEmbeddings>;
  readonly negativePrompt: string;
  readonly scratch: Scratch;
  readonly signal: AbortSignal | undefined;
  /** Called after every forward. */
  onForward(): void;
}

/** Error of one step and branch against the reference, pooled over takes. */
export interface StepError {
  readonly step: number;
  readonly timestep: number;
  readonly branch: Branch;
  readonly errors: readonly Difference[];
}

/** The runs that evaluation makes of one model. */
export class ModelRuns {
  readonly #denoiser: Denoiser;
  readonly #context: RunContext;
  /** Wall times of all forwards, ms. */
  readonly times: number[] = [];

  constructor(denoiser: Denoiser, context: RunContext) {
    this.#denoiser = denoiser;
    this.#context = context;
  }

  /** The same model, fed the embeddings of another text encoder. Its times are its own. */
  fed(embeddings: ReadonlyMap<string, PromptEmbeddings>): ModelRuns {
    return new ModelRuns(this.#denoiser, { ...this.#context, embeddings });
  }

  /**
   * The whole chain from noise. With `record`, leaves the latents before every step and every prediction in the scratch folder.
   * @returns finished latents
   */
  async sample({ prompt, seed }: Take, record: string | undefined): Promise<Float32Array> {
    const { shape, scratch, guidance } = this.#context;
    return runChain({
      scheduler: this.#context.makeScheduler(this.#context.steps),
      shape,
      noise: randn(seed, latentElements(shape)),
      guidance,
      text: { cond: this.#text(prompt), uncond: this.#text(this.#context.negativePrompt) },
      predict: async (calls) => {
        const velocities: Float32Array[] = [];
        for (const { step, branch, input } of calls) {
          const velocity = await this.#predict(input.latents, input.timestep, input.text);
          velocities.push(velocity);
          if (record === undefined) continue;
          if (branch === 'cond') await scratch.put(`${record}-${step}`, input.latents);
          await scratch.put(`${record}-${step}-${branch}`, velocity);
        }
        return velocities;
      },
    });
  }

  /** Predicts at every latent of a recorded trajectory. @returns errors by step and branch */
  async teacherForced(takes: readonly { readonly take: Take; readonly record: string }[]): Promise<StepError[]> {
    const { scratch, guidance, makeScheduler, steps, negativePrompt } = this.#context;
    const rows: StepError[] = [];
    for (const [step, timestep] of makeScheduler(steps).timesteps.entries()) {
      for (const branch of branchesAt(guidance)) {
        const errors: Difference[] = [];
        for (const { take, record } of takes) {
          const latents = await scratch.get(`${record}-${step}`);
          const expected = await scratch.get(`${record}-${step}-${branch}`);
          const text = this.#text(branch === 'cond' ? take.prompt : negativePrompt);
          errors.push(difference(expected, await this.#predict(latents, timestep, text)));
        }
        rows.push({ step, timestep, branch, errors });
      }
    }
    return rows;
  }

  /**
   * Noises a clip to sigma and predicts it in one step: x0 = x - sigma v with x = (1 - sigma) x0 + sigma noise. The noise depends on the
   * clip's and the sigma's position, so both models see the same.
   */
  async renoised(
    { prompt, latents }: LatentClip,
    sigma: number,
    clip: number,
    position: number,
  ): Promise<Float32Array> {
    const { makeScheduler, steps, seed } = this.#context;
    const noise = randn(deriveSeed(seed, clip, position), latents.length);
    const noisy = latents.map((x, i) => (1 - sigma) * x + sigma * (noise[i] as number));
    const timestep = makeScheduler(steps).timestepOf(sigma);
    const velocity = await this.#predict(noisy, timestep, this.#text(prompt));
    return noisy.map((x, i) => x - sigma * (velocity[i] as number));
  }

  #text(prompt: string): PromptEmbeddings {
    return this.#context.embeddings.get(prompt) as PromptEmbeddings;
  }

  async #predict(latents: Float32Array, timestep: number, text: PromptEmbeddings): Promise<Float32Array> {
    this.#context.signal?.throwIfAborted();
    const { velocity, ms } = await this.#denoiser.predict({ latents, shape: this.#context.shape, timestep, text });
    this.times.push(ms);
    this.#context.onForward();
    return velocity;
  }
}
