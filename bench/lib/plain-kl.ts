import type { CenteredBins } from '../../src/numerics/histogram.js';

const MIN_KEPT = 0.99999;

/**
 * The threshold that the definition at `klThreshold` names, read bin by bin: O(bins) for each of O(bins) candidates.
 * @returns the threshold in bin widths, and how many candidates keep enough samples to be compared
 */
export function plainKlThreshold({ counts, center }: CenteredBins, levels: number): { k: number; compared: number } {
  const capped = counts.slice();
  const neighbours = Math.max(counts[center - 1] ?? 0, counts[center + 1] ?? 0);
  if (neighbours > 0) capped[center] = Math.min(capped[center] as number, neighbours);
  const full = Math.max(center, counts.length - center);
  const least = sum(counts, 0, counts.length) * MIN_KEPT;
  let [best, cost, compared] = [full, Number.POSITIVE_INFINITY, 0];
  for (let k = full; k >= 1; k--) {
    const from = Math.max(0, center - k);
    const to = Math.min(counts.length, center + k);
    if (to - from < levels || sum(counts, from, to) < least) break;
    compared++;
    const current = divergence(capped, from, to, levels);
    if (current < cost) [best, cost] = [k, current];
  }
  return { k: best, compared };
}

function divergence(counts: Float64Array, from: number, to: number, levels: number): number {
  const n = to - from;
  const p = counts.slice(from, to);
  p[0] = (p[0] as number) + sum(counts, 0, from);
  p[n - 1] = (p[n - 1] as number) + sum(counts, to, counts.length);
  const q = new Float64Array(n);
  for (let group = 0; group < levels; group++) {
    const start = Math.floor((group * n) / levels);
    const end = Math.floor(((group + 1) * n) / levels);
    const mass = sum(counts, from + start, from + end);
    let used = 0;
    for (let i = start; i < end; i++) if ((p[i] as number) > 0) used++;
    for (let i = start; i < end; i++) if ((p[i] as number) > 0) q[i] = mass / used;
  }
  const [totalP, totalQ] = [sum(p, 0, n), sum(q, 0, n)];
  let cost = 0;
  for (let i = 0; i < n; i++) {
    const share = (p[i] as number) / totalP;
    if (share > 0) cost += share * Math.log(share / ((q[i] as number) / totalQ));
  }
  return cost;
}

function sum(values: Float64Array, from: number, to: number): number {
  let total = 0;
  for (let i = from; i < to; i++) total += values[i] as number;
  return total;
}
