import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CenteredBins, Histogram } from '../../../../src/numerics/histogram.js';
import { randn } from '../../../../src/numerics/rng.js';
import { chooseRange } from '../../../../src/numerics/thresholds/index.js';
import { klDivergence, klThreshold } from '../../../../src/numerics/thresholds/kl.js';
import { candidateWindows, type Kept, magnitudes, signed, sum } from './bins.js';

/** KL(P || Q) of one window, array by array. */
function divergence(counts: readonly number[], { from, to }: Kept, levels: number): number {
  const inside = counts.slice(from, to);
  const n = inside.length;
  const p = inside.slice();
  p[0] = (p[0] as number) + sum(counts.slice(0, from));
  p[n - 1] = (p[n - 1] as number) + sum(counts.slice(to));
  const q: number[] = Array(n).fill(0);
  for (let group = 0; group < levels; group++) {
    const bins: number[] = [];
    for (let i = Math.floor((group * n) / levels); i < Math.floor(((group + 1) * n) / levels); i++) bins.push(i);
    const used = bins.filter((i) => (p[i] as number) > 0);
    const mass = sum(bins.map((i) => inside[i] as number));
    for (const i of used) q[i] = mass / used.length;
  }
  const [totalP, totalQ] = [sum(p), sum(q)];
  let cost = 0;
  for (let i = 0; i < n; i++) {
    const share = (p[i] as number) / totalP;
    if (share === 0) continue;
    if (q[i] === 0) return Number.POSITIVE_INFINITY;
    cost += share * Math.log(share / ((q[i] as number) / totalQ));
  }
  return cost;
}

function withCappedZero({ counts, center }: CenteredBins): number[] {
  const capped = [...counts];
  const neighbours = [center - 1, center + 1].map((i) => counts[i] ?? 0);
  capped[center] = Math.min(counts[center] as number, Math.max(...neighbours));
  return capped;
}

/** Cost of each candidate; infinite where it clips more than one sample in 100,000. */
function costs(bins: CenteredBins, levels: number): (Kept & { cost: number })[] {
  const capped = withCappedZero(bins);
  const total = sum(bins.counts);
  return candidateWindows(bins, levels).map((window) => {
    const clipped = total - sum(bins.counts.slice(window.from, window.to));
    const cost = clipped * 100_000 > total ? Number.POSITIVE_INFINITY : divergence(capped, window, levels);
    return { ...window, cost };
  });
}

function close(a: number, b: number): boolean {
  return a === b || Math.abs(a - b) <= 1e-9 * Math.abs(b) + 1e-12;
}

const forms = [
  { form: 'magnitudes', levels: 128, bins: magnitudes(100, 330) },
  { form: 'signed bins', levels: 256, bins: signed(220, 800) },
];

describe.each(forms)('KL over $levels levels of $form', ({ levels, bins }) => {
  it('equals an array-by-array reading of its definition for every window', () => {
    fc.assert(
      fc.property(bins, (histogram) => {
        const fast = klDivergence(histogram, levels);
        for (const window of candidateWindows(histogram, levels)) {
          const expected = divergence([...histogram.counts], window, levels);
          expect(close(fast(window), expected), `k ${window.k}: ${fast(window)} for ${expected}`).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('chooses the cheapest window, and the widest of equals', () => {
    const bothNeighboursEmpty = ({ counts, center }: CenteredBins): boolean =>
      (counts[center - 1] ?? 0) === 0 && (counts[center + 1] ?? 0) === 0;
    fc.assert(
      fc.property(
        bins.filter((histogram) => !bothNeighboursEmpty(histogram)),
        (histogram) => {
          const all = costs(histogram, levels);
          const least = Math.min(...all.map(({ cost }) => cost));
          const widest = all.find(({ cost }) => cost === least)?.k ?? all[0]?.k;
          const { k, candidates } = klThreshold(histogram, levels);
          const chosen = all.find((window) => window.k === k)?.cost ?? Number.NaN;
          expect(k === widest || close(chosen, least), `chose ${k} at ${chosen}, not ${widest} at ${least}`).toBe(true);
          expect(candidates).toBe(all.length);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('the KL threshold', () => {
  it.each([
    ['fewer bins than levels', Float64Array.of(3, 0, 2, 0, 0, 7)],
    ['one bin', Float64Array.of(9)],
    ['nothing', new Float64Array(4)],
    ['as many bins as levels', new Float64Array(128).fill(2)],
  ])('is the full range, with nothing to compare, of %s', (_, counts) => {
    expect(klThreshold({ counts, center: 0, width: 1 }, 128)).toEqual({ k: counts.length, candidates: 1 });
  });

  it('is the same each time, and the widest of ties between empty bins', () => {
    const counts = new Float64Array(400);
    for (let i = 0; i < 128; i++) counts[i] = 1;
    const bins = { counts, center: 0, width: 1 };
    const { k } = klThreshold(bins, 128);
    expect(klThreshold({ ...bins, counts: counts.slice() }, 128).k).toBe(k);
    const cost = klDivergence({ ...bins, counts: Float64Array.from(withCappedZero(bins)) }, 128);
    const least = Math.min(...candidateWindows(bins, 128).map(cost));
    const ties = candidateWindows(bins, 128).filter((window) => cost(window) === least);
    expect(k).toBe(Math.max(...ties.map((window) => window.k)));
  });

  it('is the widest of those that lose nothing', () => {
    const counts = Float64Array.from({ length: 300 }, (_, i) => (i === 0 ? 5 : 0));
    expect(klThreshold({ counts, center: 0, width: 1 }, 128)).toEqual({ k: 300, candidates: 173 });
  });

  it('clips an outlier of a normal distribution on int8', () => {
    const histogram = new Histogram();
    histogram.add(randn(7, 1_000_000));
    histogram.add(Float32Array.of(50));
    const chosen = chooseRange(histogram.toJSON(), { min: -5.5, max: 50 }, 'int8', { method: 'kl', percentile: 99 });
    expect(chosen.high).toBeLessThan(8);
    expect(chosen.high).toBeGreaterThan(3);
    expect(chosen.low).toBeGreaterThanOrEqual(-5.5);
  });

  it.each([1, 2, 5, 10])('keeps the 99.9th percentile of GELU(%d x) on uint8', (gain) => {
    const values = randn(11, 200_000).map((x) => gelu(gain * x));
    const histogram = new Histogram();
    histogram.add(values);
    const sorted = values.toSorted();
    const range = { min: sorted[0] as number, max: sorted.at(-1) as number };
    const { high, low } = chooseRange(histogram.toJSON(), range, 'uint8', { method: 'kl', percentile: 99 });
    expect(high).toBeGreaterThanOrEqual(sorted[Math.ceil(0.999 * sorted.length)] as number);
    expect(low).toBe(range.min);
  });
});

function gelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}
