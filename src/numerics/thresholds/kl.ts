import type { CenteredBins } from '../histogram.js';
import { type Choice, prefixSums, searchThreshold, type Window } from './window.js';

/**
 * A window must keep this share of the samples. KL alone over-clips: the few large activations of a video transformer carry its output (on
 * the micro pipeline, scheme ffn, S8: 31.4 dB SQNR with 0.999 here, 36.5 with 0.9999, 37.7 with 0.99999; min-max reaches 37.4).
 */
const MIN_KEPT = 0.99999;

/**
 * Entropy calibration after S. Migacz, "8-bit Inference with TensorRT" (GTC 2017, s7310).
 *
 * Candidates are the windows of n >= L bins that keep at least 99.999 % of the samples. The bin at zero counts no more than the larger of its
 * neighbours: exact zeros (ReLU, padding) lose nothing under any threshold, and their peak would otherwise buy finer steps with
 * clipped tails. For a window, with counts c and total N:
 * - P: the counts in the window; what lies outside is added to the window's end bins (clipping puts it there).
 * - Q: the window cut into L groups, group g = bins [floor(g n / L), floor((g + 1) n / L)). Each group's sum of c, without the clipped
 *   mass, is spread evenly over its bins where P > 0. So Q is what L levels can tell of the window.
 * - Cost: KL(P || Q) of both normalised; infinite where P > 0 and Q = 0.
 *
 * The least cost wins and a tie goes to the wider window. A straightforward reading costs O(bins) a candidate; with prefix
 * sums it is O(L), since sum P log P - sum_g P_g log(S_g / n_g) needs sums over groups only.
 *
 * @param levels 128 for magnitudes of a symmetric INT8 target, 256 for an affine UINT8 one
 */
export function klThreshold(bins: CenteredBins, levels: number): Choice {
  const capped = { ...bins, counts: capZeroPeak(bins) };
  const divergence = klDivergence(capped, levels);
  const kept = prefixSums(bins.counts.length, (i) => bins.counts[i] as number);
  const least = (kept.at(-1) as number) * MIN_KEPT;
  return searchThreshold(bins, levels, (window) =>
    (kept[window.to] as number) - (kept[window.from] as number) < least ? Number.POSITIVE_INFINITY : divergence(window),
  );
}

function capZeroPeak({ counts, center }: CenteredBins): Float64Array {
  const capped = counts.slice();
  const neighbours = [counts[center - 1], counts[center + 1]].filter((count) => count !== undefined);
  capped[center] = Math.min(capped[center] ?? 0, Math.max(...neighbours, 0) || Number.POSITIVE_INFINITY);
  return capped;
}

/** @returns the cost function of {@link klThreshold}; exported so that a test can hold it against a brute-force reading. `total` is that of the bins given. */
export function klDivergence({ counts }: CenteredBins, levels: number): (window: Window) => number {
  const size = counts.length;
  const count = prefixSums(size, (i) => counts[i] as number);
  const used = prefixSums(size, (i) => ((counts[i] as number) > 0 ? 1 : 0));
  const entropy = prefixSums(size, (i) => xLogX(counts[i] as number));
  const between = (sums: Float64Array, from: number, to: number): number =>
    (sums[to] as number) - (sums[from] as number);
  const total = count[size] as number;

  return ({ from, to }) => {
    const inside = between(count, from, to);
    if (inside === 0) return Number.POSITIVE_INFINITY;
    const below = count[from] as number;
    const above = total - (count[to] as number);
    const first = counts[from] as number;
    const last = counts[to - 1] as number;
    const n = to - from;
    // Clipped samples in an end group without samples of its own: P > 0 and Q = 0. Asked first, as most windows of a tensor with outliers end so.
    if (below > 0 && between(count, from, from + Math.floor(n / levels)) === 0) return Number.POSITIVE_INFINITY;
    if (above > 0 && between(count, to - Math.ceil(n / levels), to) === 0) return Number.POSITIVE_INFINITY;

    let sum = between(entropy, from, to);
    sum += xLogX(first + below) - xLogX(first) + xLogX(last + above) - xLogX(last);

    let start = from;
    for (let group = 1; group <= levels; group++) {
      const end = from + Math.floor((group * n) / levels);
      const mass = between(count, start, end);
      let p = mass;
      let bins = between(used, start, end);
      if (start === from) {
        p += below;
        if (first === 0 && below > 0) bins++;
      }
      if (end === to) {
        p += above;
        if (last === 0 && above > 0) bins++;
      }
      if (p > 0) sum -= p * Math.log(mass / bins);
      start = end;
    }
    return sum / total - Math.log(total / inside);
  };
}

function xLogX(x: number): number {
  return x > 0 ? x * Math.log(x) : 0;
}
