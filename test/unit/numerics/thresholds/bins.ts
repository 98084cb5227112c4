import fc from 'fast-check';
import type { CenteredBins } from '../../../../src/numerics/histogram.js';

/** Bins from `from` to before `to`, as a threshold of k bin widths keeps them. */
export interface Kept {
  readonly k: number;
  readonly from: number;
  readonly to: number;
}

/** Every threshold from the widest down whose window has a bin for each level; the widest in any case. */
export function candidateWindows({ counts, center }: CenteredBins, levels: number): Kept[] {
  const windows: Kept[] = [];
  for (let k = Math.max(center, counts.length - center); k >= 1; k--) {
    const from = Math.max(center - k, 0);
    const to = Math.min(center + k, counts.length);
    if (windows.length === 0 || to - from >= levels) windows.push({ k, from, to });
  }
  return windows;
}

export function sum(counts: Iterable<number>): number {
  let total = 0;
  for (const count of counts) total += count;
  return total;
}

/** Histograms of any shape; some with a heavy body and single samples far out, as activations have. */
function counts(minLength: number, maxLength: number): fc.Arbitrary<Float64Array> {
  const ragged = fc.array(fc.oneof(fc.constant(0), fc.nat({ max: 9 }), fc.nat({ max: 1_000_000 })), {
    minLength,
    maxLength,
    size: 'max',
  });
  const tailed = fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength, maxLength, size: 'max' }).map((values) => {
    const tail = Math.floor(values.length * 0.6);
    return values.map((value, i) => (i < tail ? 1000 + value : value % 29 === 0 ? 1 : 0));
  });
  return fc
    .oneof(ragged, tailed)
    .filter((values) => values.some((value) => value > 0))
    .map((values) => Float64Array.from(values));
}

/** Some of them with a peak of exact zeros. */
function peaked(bins: fc.Arbitrary<Omit<CenteredBins, 'width'>>): fc.Arbitrary<CenteredBins> {
  return fc.tuple(bins, fc.constantFrom(1, 1000)).map(([{ counts, center }, peak]) => ({
    counts: counts.map((count, i) => (i === center ? count * peak : count)),
    center,
    width: 0.25,
  }));
}

export function magnitudes(minLength: number, maxLength: number): fc.Arbitrary<CenteredBins> {
  return peaked(counts(minLength, maxLength).map((values) => ({ counts: values, center: 0 })));
}

export function signed(minLength: number, maxLength: number): fc.Arbitrary<CenteredBins> {
  const side = counts(minLength >> 1, maxLength >> 1);
  const mirrored = fc
    .tuple(side, side)
    .map(([left, right]) => ({ counts: Float64Array.of(...left.toReversed(), ...right), center: left.length }));
  const anywhere = fc
    .tuple(counts(minLength, maxLength), fc.double({ min: 0, max: 1, noNaN: true }))
    .map(([values, where]) => ({ counts: values, center: Math.floor(where * (values.length - 1)) }));
  return peaked(fc.oneof(mirrored, anywhere));
}
