import { type HistogramData, magnitudeBins, signedBins } from '../histogram.js';
import { klThreshold } from './kl.js';
import { mseThreshold } from './mse.js';
import { percentileThreshold } from './percentile.js';
import { type Choice, fullThreshold, windowOf } from './window.js';

export const THRESHOLD_METHODS = ['kl', 'minmax', 'percentile', 'mse'] as const;

export type ThresholdMethod = (typeof THRESHOLD_METHODS)[number];

export interface ThresholdOptions {
  readonly method: ThresholdMethod;
  /** Percent of samples that `percentile` keeps. */
  readonly percentile: number;
}

/** The range an activation is quantized over, and what choosing it cost. */
export interface ChosenRange {
  readonly low: number;
  readonly high: number;
  /** Share of the histogram's samples outside [low, high], in [0, 1]. */
  readonly clippedShare: number;
  readonly candidates: number;
}

/**
 * Picks the quantization range of one tensor.
 *
 * @param histogram samples of the tensor; may be a subset of what `range` covers
 * @param range exact minimum and maximum over all values seen
 * @param dtype int8: symmetric, searched on |x|; uint8: affine, both ends clipped at the same magnitude, so that a one-sided tensor keeps its side
 */
export function chooseRange(
  histogram: HistogramData,
  range: { readonly min: number; readonly max: number },
  dtype: 'int8' | 'uint8',
  { method, percentile }: ThresholdOptions,
): ChosenRange {
  const symmetric = dtype === 'int8';
  const bins = symmetric ? magnitudeBins(histogram) : signedBins(histogram);
  const full = fullThreshold(bins);
  const choice = ((): Choice => {
    switch (method) {
      case 'minmax':
        return { k: full, candidates: 1 };
      case 'kl':
        return klThreshold(bins, symmetric ? 128 : 256);
      case 'percentile':
        return percentileThreshold(bins, percentile);
      case 'mse':
        return mseThreshold(bins, symmetric ? 127 : 255);
    }
  })();
  if (choice.k === full) return { low: range.min, high: range.max, clippedShare: 0, candidates: choice.candidates };
  const { from, to } = windowOf(bins, choice.k);
  let kept = 0;
  let total = 0;
  bins.counts.forEach((count, i) => {
    total += count;
    if (i >= from && i < to) kept += count;
  });
  const threshold = choice.k * bins.width;
  const clip = (value: number): number => Math.min(Math.max(value, -threshold), threshold);
  return {
    low: clip(range.min),
    high: clip(range.max),
    clippedShare: total === 0 ? 0 : (total - kept) / total,
    candidates: choice.candidates,
  };
}
