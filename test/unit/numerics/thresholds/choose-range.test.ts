import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Histogram } from '../../../../src/numerics/histogram.js';
import { chooseRange, THRESHOLD_METHODS } from '../../../../src/numerics/thresholds/index.js';
import { finiteFloat } from '../../helpers/floats.js';

const DTYPES = ['int8', 'uint8'] as const;
const combinations = THRESHOLD_METHODS.flatMap((method) => DTYPES.map((dtype) => ({ method, dtype })));

function histogramOf(samples: readonly number[]): Histogram {
  const histogram = new Histogram();
  histogram.add(Float32Array.from(samples));
  return histogram;
}

describe.each(combinations)('chooseRange $method $dtype', ({ method, dtype }) => {
  const choose = (samples: readonly number[], seen: readonly number[] = samples, percentile = 99.9) =>
    chooseRange(histogramOf(samples).toJSON(), { min: Math.min(...seen), max: Math.max(...seen) }, dtype, {
      method,
      percentile,
    });

  it('stays inside the exact range and 0', () => {
    fc.assert(
      fc.property(
        fc.array(finiteFloat(), { minLength: 1, maxLength: 30 }),
        fc.array(finiteFloat(), { maxLength: 5 }),
        fc.double({ min: 0.01, max: 100, noNaN: true }),
        (samples, unsampled, percentile) => {
          const seen = [...samples, ...unsampled];
          const { low, high } = choose(samples, seen, percentile);
          expect(low).toBeGreaterThanOrEqual(Math.min(0, ...seen));
          expect(high).toBeLessThanOrEqual(Math.max(0, ...seen));
          expect(low).toBeLessThanOrEqual(high);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('reports the share of samples outside of what it chose', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -4000, max: 4000 }), { minLength: 1, maxLength: 60 }),
        fc.double({ min: 1, max: 100, noNaN: true }),
        (values, percentile) => {
          // 4096 keeps bins one wide, and samples in the middle of theirs.
          const samples = [...values.map((value) => value + 0.5), 4095.5];
          const { low, high, clippedShare } = choose(samples, samples, percentile);
          const outside = samples.filter((x) => x < low || x > high).length;
          expect(clippedShare).toBeCloseTo(outside / samples.length, 12);
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    ['nothing', []],
    ['zeros', [0, 0, -0]],
    ['a positive constant', [3.1, 3.1]],
    ['a negative constant', [-0.1, -0.1]],
    ['the smallest denormal', [2 ** -149]],
    ['the largest float32', [3.4028234663852886e38, -3.4028234663852886e38]],
  ])('gives a finite range for %s', (_, samples) => {
    const { low, high } = choose(samples, samples.length === 0 ? [0] : samples);
    expect(Number.isFinite(low) && Number.isFinite(high)).toBe(true);
  });
});

describe.each(combinations.filter(({ method }) => method !== 'mse'))(
  'chooseRange $method $dtype',
  ({ method, dtype }) => {
    it.each([[3.1], [-0.1], [0]])('keeps the constant %d', (constant) => {
      const range = { min: constant, max: constant };
      const chosen = chooseRange(histogramOf([constant]).toJSON(), range, dtype, { method, percentile: 99.9 });
      expect(chosen).toMatchObject({ low: constant, high: constant, clippedShare: 0 });
    });
  },
);

describe('chooseRange mse', () => {
  it.each(DTYPES)('keeps a constant on %s', (dtype) => {
    const range = { min: -1, max: -1 };
    const { low, high } = chooseRange(histogramOf([-1]).toJSON(), range, dtype, { method: 'mse', percentile: 99.9 });
    expect(low).toBeLessThanOrEqual(high);
  });
});

describe('chooseRange minmax', () => {
  it.each(DTYPES)('is the exact range on %s, whatever was sampled', (dtype) => {
    const range = { min: -1.25, max: 70 };
    const chosen = chooseRange(histogramOf([0.5, -1]).toJSON(), range, dtype, { method: 'minmax', percentile: 1 });
    expect(chosen).toEqual({ low: -1.25, high: 70, clippedShare: 0, candidates: 1 });
  });
});

describe('chooseRange percentile', () => {
  // The largest of them makes bins one wide.
  const samples = Array.from({ length: 4000 }, (_, i) => i + 0.5);

  it('cuts a one-sided tensor on uint8 at its upper end only', () => {
    const range = { min: 0.5, max: 3999.5 };
    const { low, high, clippedShare } = chooseRange(histogramOf(samples).toJSON(), range, 'uint8', {
      method: 'percentile',
      percentile: 90,
    });
    expect(low).toBe(0.5);
    expect(high).toBe(3600);
    expect(clippedShare).toBeCloseTo(0.1, 12);
  });

  it('cuts both ends of a two-sided tensor at the same magnitude', () => {
    const both = [...samples, ...samples.map((x) => -x)];
    for (const dtype of DTYPES) {
      const { low, high } = chooseRange(histogramOf(both).toJSON(), { min: -3999.5, max: 3999.5 }, dtype, {
        method: 'percentile',
        percentile: 90,
      });
      expect([low, high]).toEqual([-3600, 3600]);
    }
  });
});
