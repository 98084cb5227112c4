import { meanInterval } from '../numerics/bootstrap.js';
import { mean } from '../numerics/stats.js';
import type { ComparedMetric, DifferenceToBest } from '../report/comparison.js';
import type { Metric, Results } from '../report/results.js';

/** What a model got on one video, or on one clip at one noise level. */
export interface PairedSample {
  /** Prompt or clip that it hangs on: samples of one are not independent. */
  readonly unit: number;
  readonly value: number | null;
}

/**
 * Figures whose mean is the metric, in an order that is the same for all results of the same settings.
 * @returns undefined where results hold no such figures
 */
export function pairedSamples(
  metric: ComparedMetric,
  { videos, psnrDrop, settings }: Results,
): PairedSample[] | undefined {
  switch (metric) {
    case 'psnr_drop':
      return psnrDrop.map(({ clip, drop }) => ({ unit: clip, value: drop }));
    case 'sqnr':
    case 'psnr':
    case 'ssim':
      return videos.map((video, take) => ({
        unit: Math.floor(take / settings.seedsPerPrompt),
        value: video[metric],
      }));
    default:
      return undefined;
  }
}

/**
 * The mean of `own - best` over samples that both have, with its interval: prompts (clips) are resampled with all pairs that hang on them, so what
 * makes a prompt hard for both models does not widen it.
 * @returns undefined where no sample is measured in both
 */
export function pairedDifference(
  own: readonly PairedSample[],
  best: readonly PairedSample[],
): (Omit<DifferenceToBest, 'best'> & { readonly differences: readonly number[] }) | undefined {
  const pairs = own.flatMap(({ unit, value }, i) => {
    const other = best[i]?.value ?? null;
    // Infinities that are the same have no difference.
    return value === null || other === null ? [] : [{ unit, value: value === other ? 0 : value - other }];
  });
  if (pairs.length === 0) return undefined;
  const interval = meanInterval(pairs);
  const differences = pairs.map(({ value }) => value);
  return {
    ...{ value: mean(differences), pairs: pairs.length, differences },
    ...(interval ? { interval } : {}),
  };
}

/**
 * The difference of two figures that have nothing but their intervals, with the interval that it has if they are independent: half-widths add up as
 * squares (MOVER; Zou and Donner 2008). Figures over the same prompts go up and down together, which makes it wider than a paired one.
 *
 * @returns undefined where either has no interval
 */
export function unpairedDifference(
  own: Pick<Metric, 'value' | 'interval'>,
  best: Pick<Metric, 'value' | 'interval'>,
): Omit<DifferenceToBest, 'best'> | undefined {
  const [a, b] = [own, best].map(({ value, interval }) => {
    const { low = null, high = null } = interval ?? {};
    return value === null || low === null || high === null ? undefined : { value, low, high };
  });
  if (!a || !b || !own.interval || !best.interval) return undefined;
  const value = a.value - b.value;
  const low = value - Math.hypot(a.value - a.low, b.high - b.value);
  const high = value + Math.hypot(a.high - a.value, b.value - b.low);
  if (!Number.isFinite(low) || !Number.isFinite(high)) return undefined;
  const { level, units } = own.interval;
  return { value, pairs: null, interval: { low, high, level, units: Math.min(units, best.interval.units) } };
}
