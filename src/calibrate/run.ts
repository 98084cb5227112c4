import { deriveSeed, MersenneTwister, randn } from '../numerics/rng.js';
import { JITTER_INPUT } from '../passes/observe-activations.js';
import { type Branch, branchesAt, runChain } from '../pipeline/denoise.js';
import { type LatentShape, latentElements } from '../pipeline/geometry.js';
import type { SchedulerFactory } from '../pipeline/schedulers/index.js';
import type { HostTensor } from '../runtime/tensor.js';
import { heldOfPrompt, heldPlaces } from './held.js';
import type { TextInputs } from './inputs.js';
import type { ObservedTransformer } from './observed-transformer.js';
import { bucketOf, type Forward, type Statistics } from './statistics.js';

export interface RunSettings {
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly buckets: number;
  /** Rows sampled a forward, or all. */
  readonly tokens: number | 'all';
  /** Tokens kept whole, over all prompts. */
  readonly held: number;
  /** Prompts of the whole calibration. */
  readonly promptCount: number;
  readonly shape: LatentShape;
  readonly makeScheduler: SchedulerFactory;
  readonly signal: AbortSignal | undefined;
}

/**
 * The sampling chains of a calibration. What a chain contributes depends on nothing but its text, its index and the seed.
 */
export class CalibrationRun {
  /** Forwards done. */
  forwards = 0;
  readonly #settings: RunSettings;
  readonly #transformer: ObservedTransformer;
  readonly #inputs: TextInputs;

  constructor(settings: RunSettings, transformer: ObservedTransformer, inputs: TextInputs) {
    this.#settings = settings;
    this.#transformer = transformer;
    this.#inputs = inputs;
  }

  /**
   * Runs the chain of one prompt and adds what it shows to the statistics. Where it fails, they hold a part of it and must not be kept.
   * @param onStep called after every step
   */
  async prompt(index: number, { activations, outputs }: Statistics, onStep: (step: number) => void): Promise<void> {
    const { steps, guidance, seed, buckets, shape, makeScheduler, signal } = this.#settings;
    const scheduler = makeScheduler(steps);
    const heldHere = heldOfPrompt(this.#settings, index);
    const cond = await this.#inputs.cond(index);
    await runChain({
      scheduler,
      shape,
      noise: randn(seed + index, latentElements(shape)),
      text: { cond, uncond: branchesAt(guidance).includes('uncond') ? await this.#inputs.uncond() : cond },
      guidance,
      predict: (calls) => {
        signal?.throwIfAborted();
        const forwards = calls.map(
          ({ step, branch }): Forward => ({
            prompt: index,
            branch,
            bucket: bucketOf(scheduler.sigmas[step] as number, buckets),
            places: heldPlaces(this.#settings, index, step, branch),
            heldOfPrompt: heldHere,
          }),
        );
        return this.#transformer.run(
          calls.map(({ input, step, branch }) => ({ input, feeds: this.#jitter(index, step, branch) })),
          {
            activation: (call, activation, { min, max, sample }) => {
              activations[activation]?.add(forwards[call] as Forward, min, max, sample);
            },
            output: (_, output, magnitude) => outputs[output]?.add(magnitude),
          },
        );
      },
      onStep: (step) => {
        this.forwards += branchesAt(guidance).length;
        onStep(step);
      },
    });
  }

  #jitter(index: number, step: number, branch: Branch): Record<string, HostTensor> {
    const { tokens, seed } = this.#settings;
    if (tokens === 'all') return {};
    const generator = new MersenneTwister(deriveSeed(seed, index, step, branch === 'cond' ? 0 : 1));
    const data = Float64Array.from({ length: tokens }, () => generator.uniform());
    return { [JITTER_INPUT]: { dtype: 'float64', dims: [tokens], data } };
  }
}
