import type { CenteredBins } from '../histogram.js';
import { type Choice, fullThreshold, prefixSums, windowOf } from './window.js';

/**
 * The smallest threshold that keeps at least `percentile` percent of the samples, to the resolution of a bin.
 *
 * @param percentile in (0, 100]
 */
export function percentileThreshold(bins: CenteredBins, percentile: number): Choice {
  const count = prefixSums(bins.counts.length, (i) => bins.counts[i] as number);
  const wanted = ((count.at(-1) as number) * percentile) / 100;
  let low = 1;
  let high = fullThreshold(bins);
  while (low < high) {
    const middle = (low + high) >> 1;
    const { from, to } = windowOf(bins, middle);
    if ((count[to] as number) - (count[from] as number) >= wanted) high = middle;
    else low = middle + 1;
  }
  return { k: low, candidates: 1 };
}
