import { type BootstrapOptions, bootstrapInterval, type Interval } from '../../numerics/bootstrap.js';
import type { FrechetTruth } from './frechet.js';

/** Features of both models' videos, pair by pair. */
export interface PairedFeatures {
  readonly reference: readonly ArrayLike<number>[];
  readonly quantized: readonly ArrayLike<number>[];
}

export interface FrechetGrowth {
  /** Frechet distances to the truth. */
  readonly reference: number;
  readonly quantized: number;
  /** quantized / reference - 1; NaN where either is no distance. */
  readonly growth: number;
  /** Of the growth; undefined with fewer than two prompts. */
  readonly interval: Interval | undefined;
}

/**
 * Growth of the Frechet distance from one model's videos to another's, with a paired interval over prompts.
 *
 * Resampled sets have more ties and so a larger distance than the set itself, which hides growth. So the logarithm of the ratio is linearised
 * about the set as it is (infinitesimal jackknife, Efron 1982): each take weighs influence_q / FVD_q - influence_r / FVD_r, takes of a prompt
 * are summed, and the mean of these weights is bootstrapped over prompts. The interval is about the growth that is expected at this number of
 * videos: what the Frechet distance is too large by at a finite number, both have.
 *
 * @param prompts the prompt of each take, by any number that tells them apart
 */
export function frechetGrowth(
  truth: FrechetTruth,
  { reference, quantized }: PairedFeatures,
  prompts: readonly number[],
  options: BootstrapOptions = {},
): FrechetGrowth {
  const ofReference = truth.influences(reference);
  const ofQuantized = truth.influences(quantized);
  const weights = new Map<number, number>();
  prompts.forEach((prompt, i) => {
    const weight =
      (ofQuantized.influences[i] as number) / ofQuantized.distance -
      (ofReference.influences[i] as number) / ofReference.distance;
    weights.set(prompt, (weights.get(prompt) ?? 0) + weight / prompts.length);
  });
  // Rounding may leave a distance of 0 below it, and a ratio with that would tell of any growth.
  const distances = [ofQuantized.distance, ofReference.distance] as const;
  const ratio = distances.every((distance) => distance > 0) ? distances[0] / distances[1] : Number.NaN;
  const perPrompt = [...weights.values()];
  const center = Math.log(ratio);
  // A prompt of many takes counts for as many: the weights are summed, and scaled back to the set that is there.
  const shifted = (indices: Int32Array): number => {
    let sum = 0;
    for (const i of indices) sum += perPrompt[i] as number;
    return center + (sum * perPrompt.length) / indices.length;
  };
  const interval = bootstrapInterval(perPrompt.length, shifted, options);
  return {
    reference: ofReference.distance,
    quantized: ofQuantized.distance,
    growth: ratio - 1,
    interval: interval && { ...interval, low: Math.expm1(interval.low), high: Math.expm1(interval.high) },
  };
}
