import type { CenteredBins } from '../histogram.js';

/** Bins [from, to) that a clipping threshold of `k` bin widths keeps. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

/** The window of threshold k: k bins on either side of zero, as far as the histogram goes. */
export function windowOf(bins: CenteredBins, k: number): Window {
  return { from: Math.max(0, bins.center - k), to: Math.min(bins.counts.length, bins.center + k) };
}

/** The largest threshold, which clips nothing. */
export function fullThreshold(bins: CenteredBins): number {
  return Math.max(bins.center, bins.counts.length - bins.center);
}

/** The smallest threshold whose window still has a bin for every level, or the full one if there is none. */
export function smallestThreshold(bins: CenteredBins, levels: number): number {
  const full = fullThreshold(bins);
  const covers = (k: number): boolean => {
    const { from, to } = windowOf(bins, k);
    return to - from >= levels;
  };
  let low = 1;
  let high = full;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (covers(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Result of a search: the threshold in bin widths, and how many were compared. */
export interface Choice {
  readonly k: number;
  readonly candidates: number;
}

/** Tries every threshold from the full one down and keeps the least cost; a tie goes to the wider window. */
export function searchThreshold(bins: CenteredBins, levels: number, cost: (window: Window) => number): Choice {
  const full = fullThreshold(bins);
  const smallest = smallestThreshold(bins, levels);
  let best = full;
  let least = Number.POSITIVE_INFINITY;
  for (let k = full; k >= smallest; k--) {
    const current = cost(windowOf(bins, k));
    if (current < least) {
      least = current;
      best = k;
    }
  }
  return { k: best, candidates: full - smallest + 1 };
}

/** sums[i] = term(0) + ... + term(i - 1). */
export function prefixSums(length: number, term: (index: number) => number): Float64Array {
  const sums = new Float64Array(length + 1);
  for (let i = 0; i < length; i++) sums[i + 1] = (sums[i] as number) + term(i);
  return sums;
}
