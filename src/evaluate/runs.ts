import { deriveSeed, randn } from '../numerics/rng.js';
import { type Difference, difference } from '../numerics/stats.js';
import { type Branch, branchesAt, type Denoiser, type DenoiserInput, runChain } from '../pipeline/denoise.js';
import { type LatentShape, latentElements } from '../pipeline/geometry.js';
import type { SchedulerFactory } from '../pipeline/schedulers/index.js';
import { ahead } from '../util/ahead.js';
import type { Scratch } from '../util/scratch.js';
import type { StoredEmbeddings } from './stored-embeddings.js';

/** One video to make: a prompt and the seed of its noise. */
export interface Take {
  readonly prompt: string;
  readonly seed: number;
}

/** A clip in latent units in the scratch folder, with the prompt that describes it. */
export interface LatentClip {
  readonly prompt: string;
  readonly key: string;
}

export interface RunContext {
  readonly shape: LatentShape;
  readonly makeScheduler: SchedulerFactory;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly embeddings: StoredEmbeddings;
  readonly negativePrompt: string;
  readonly scratch: Scratch;
  readonly signal: AbortSignal | undefined;
  /** Takes over what an interrupted run finished. */
  step<T>(name: string, make: () => Promise<T>): Promise<T>;
  /** Called after every forward, and for every one that is taken over. */
  onForward(): void;
}

/** What a chain leaves behind beside its finished latents. */
export interface Tracking {
  /** Record to make: latents before every step and behind the last, and every prediction. */
  readonly record?: string | undefined;
  /** Record of another chain from the same noise, to be held against. */
  readonly against?: string | undefined;
}

/** Error of one step and branch against the reference, pooled over takes. */
export interface StepError {
  readonly step: number;
  readonly timestep: number;
  readonly branch: Branch;
  readonly errors: readonly Difference[];
}

/** The runs that evaluation makes of one model. Latents go to the scratch folder: a set of them does not fit into memory. */
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
  fed(embeddings: StoredEmbeddings): ModelRuns {
    return new ModelRuns(this.#denoiser, { ...this.#context, embeddings });
  }

  /**
   * The whole chain from noise.
   * @param key the finished latents are put under
   * @returns distance of the latents from those of the other chain, after each step; empty without one
   */
  sample(take: Take, key: string, tracking: Tracking = {}): Promise<Difference[]> {
    return this.#step(`chain ${key}`, () => this.#chain(take, key, tracking));
  }

  async #chain({ prompt, seed }: Take, key: string, { record, against }: Tracking): Promise<Difference[]> {
    const { shape, scratch, guidance, embeddings, negativePrompt } = this.#context;
    const distances: Difference[] = [];
    // What a step left is written while the next one runs.
    let writing: Promise<unknown> | undefined;
    const finished = await runChain({
      scheduler: this.#context.makeScheduler(this.#context.steps),
      shape,
      noise: randn(seed, latentElements(shape)),
      guidance,
      text: { cond: await embeddings.get(prompt), uncond: await embeddings.get(negativePrompt) },
      predict: async (calls) => {
        const velocities: Float32Array[] = [];
        for (const { input } of calls) velocities.push(await this.#predict(input));
        if (record === undefined) return velocities;
        await writing;
        writing = Promise.all(
          calls.flatMap(({ step, branch, input }, i) => [
            ...(branch === 'cond' ? [scratch.put(`${record}-${step}`, input.latents)] : []),
            scratch.put(`${record}-${step}-${branch}`, velocities[i] as Float32Array),
          ]),
        );
        writing.catch(() => {});
        return velocities;
      },
      onStep: async (step, latents) => {
        if (against !== undefined) distances.push(difference(await scratch.get(`${against}-${step + 1}`), latents));
      },
    });
    await writing;
    if (record !== undefined) await scratch.put(`${record}-${this.#context.steps}`, finished);
    await scratch.put(key, finished);
    return distances;
  }

  /**
   * Predicts at every latent of a recorded trajectory.
   * @param name of the model with its embeddings
   * @returns errors by step and branch
   */
  async teacherForced(
    name: string,
    takes: readonly { readonly take: Take; readonly record: string }[],
  ): Promise<StepError[]> {
    const { scratch, guidance, makeScheduler, steps, negativePrompt } = this.#context;
    const rows: StepError[] = [];
    for (const [step, timestep] of makeScheduler(steps).timesteps.entries()) {
      for (const branch of branchesAt(guidance)) {
        const read = async ({ take, record }: (typeof takes)[number]) => {
          const prompt = branch === 'cond' ? take.prompt : negativePrompt;
          const input = await this.#input(await scratch.get(`${record}-${step}`), timestep, prompt);
          return { input, expected: await scratch.get(`${record}-${step}-${branch}`) };
        };
        const errors = await this.#step(`${name} at step ${step}, ${branch}`, async () => {
          const found: Difference[] = [];
          for await (const { input, expected } of ahead(takes, read)) {
            found.push(difference(expected, await this.#predict(input)));
          }
          return found;
        });
        rows.push({ step, timestep, branch, errors });
      }
    }
    return rows;
  }

  /**
   * Noises a clip to sigma and predicts it in one step: x0 = x - sigma v with x = (1 - sigma) x0 + sigma noise. The noise depends on the
   * clip's and the sigma's position, so both models see the same.
   *
   * @param key the predicted latents are put under
   */
  renoised(
    clip: LatentClip,
    sigma: number,
    position: readonly [clip: number, sigma: number],
    key: string,
  ): Promise<void> {
    return this.#step(`re-noised ${key}`, () => this.#renoise(clip, sigma, position, key));
  }

  async #renoise(
    { prompt, key: clip }: LatentClip,
    sigma: number,
    position: readonly [clip: number, sigma: number],
    key: string,
  ): Promise<void> {
    const { makeScheduler, steps, seed, scratch } = this.#context;
    const latents = await scratch.get(clip);
    const noise = randn(deriveSeed(seed, ...position), latents.length);
    const noisy = latents.map((x, i) => (1 - sigma) * x + sigma * (noise[i] as number));
    const velocity = await this.#predict(await this.#input(noisy, makeScheduler(steps).timestepOf(sigma), prompt));
    await scratch.put(
      key,
      noisy.map((x, i) => x - sigma * (velocity[i] as number)),
    );
  }

  /** A step, with the times of its forwards. */
  async #step<T>(name: string, make: () => Promise<T>): Promise<T> {
    const before = this.times.length;
    const { value, times } = await this.#context.step(name, async () => {
      const made = await make();
      return { value: made, times: this.times.slice(before) };
    });
    for (const ms of times.slice(this.times.length - before)) {
      this.times.push(ms);
      this.#context.onForward();
    }
    return value;
  }

  async #input(latents: Float32Array, timestep: number, prompt: string): Promise<DenoiserInput> {
    return { latents, shape: this.#context.shape, timestep, text: await this.#context.embeddings.get(prompt) };
  }

  async #predict(input: DenoiserInput): Promise<Float32Array> {
    this.#context.signal?.throwIfAborted();
    const { velocity, ms } = await this.#denoiser.predict(input);
    this.times.push(ms);
    this.#context.onForward();
    return velocity;
  }
}
