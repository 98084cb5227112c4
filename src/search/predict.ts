import { mean } from '../numerics/stats.js';
import type { Sensitivity } from './sensitivity-file.js';

/** What is expected of plans by what their linears do alone: their errors add up as if they were independent. */
export class Prediction {
  /** By linear: noise at each sample. */
  readonly #noise: readonly (readonly number[])[];
  readonly #samples: number;

  /** @param keys linears in order; those that the sensitivity does not know are taken to do nothing */
  constructor({ linears, samples }: Pick<Sensitivity, 'linears' | 'samples'>, keys: readonly string[]) {
    this.#samples = samples.length;
    this.#noise = keys.map((key) => {
      const { damage = 0, noise } = linears[key] ?? {};
      return samples.map((_, s) => noise?.[s] ?? damage);
    });
  }

  /**
   * SQNR at the denoiser's output, as evaluations report it: mean over samples of each one's figure.
   * @param quantized positions of linears
   * @returns dB; Infinity where nothing is quantized
   */
  sqnr(quantized: Iterable<number>): number {
    const sums = new Array<number>(this.#samples).fill(0);
    for (const i of quantized) {
      for (let s = 0; s < sums.length; s++) sums[s] = (sums[s] as number) + (this.#noise[i]?.[s] as number);
    }
    return mean(sums.map((noise) => -10 * Math.log10(noise)));
  }
}
