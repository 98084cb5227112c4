import type { CenteredBins } from '../histogram.js';
import { type Choice, prefixSums, searchThreshold } from './window.js';

/**
 * The threshold with the least expected squared error: step^2 / 12 for every sample kept (uniform rounding error), squared distance to
 * the window's edge for every sample clipped (samples taken at their bin's middle).
 *
 * @param levels steps over the whole window: 127 for magnitudes of a symmetric INT8 target, 255 for an affine UINT8 one
 */
export function mseThreshold(bins: CenteredBins, levels: number): Choice {
  const { counts, center } = bins;
  const middle = (i: number): number => i - center + 0.5;
  const zeroth = prefixSums(counts.length, (i) => counts[i] as number);
  const first = prefixSums(counts.length, (i) => (counts[i] as number) * middle(i));
  const second = prefixSums(counts.length, (i) => (counts[i] as number) * middle(i) ** 2);
  const distance = (from: number, to: number, edge: number): number => {
    const c = (zeroth[to] as number) - (zeroth[from] as number);
    const m = (first[to] as number) - (first[from] as number);
    const s = (second[to] as number) - (second[from] as number);
    return s - 2 * edge * m + edge * edge * c;
  };
  return searchThreshold(bins, levels, ({ from, to }) => {
    const step = (to - from) / levels;
    const kept = (zeroth[to] as number) - (zeroth[from] as number);
    const below = distance(0, from, from - center);
    const above = distance(to, counts.length, to - center);
    return (kept * step * step) / 12 + below + above;
  });
}
