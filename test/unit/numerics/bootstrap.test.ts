import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DISTRIBUTIONS, type Distribution, meanCoverage } from '../../../bench/lib/coverage.js';
import { bootstrapInterval, type Interval } from '../../../src/numerics/bootstrap.js';
import { deriveSeed, MersenneTwister, randn } from '../../../src/numerics/rng.js';
import { mean, median } from '../../../src/numerics/stats.js';

function interval(values: readonly number[], seed = 0, of = mean): Interval | undefined {
  return bootstrapInterval(values.length, (indices) => of(Array.from(indices, (i) => values[i] as number)), {
    resamples: 500,
    seed,
  });
}

const figures = fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 2, maxLength: 12 });
const SETS = 400;

/** Of SETS simulated sets, four standard deviations below the least coverage that docs/metrics.md tells. */
function expectCoverage(covered: number, least: number): void {
  expect(covered).toBeGreaterThan(least - 4 * Math.sqrt((least * (1 - least)) / SETS));
}

describe('coverage of 95 % intervals of the mean', () => {
  const least: Record<Distribution, readonly number[]> = {
    normal: [0.94, 0.94, 0.94, 0.94],
    'lognormal, sigma 0.5': [0.9, 0.9, 0.92, 0.93],
    'lognormal, sigma 1': [0.8, 0.82, 0.86, 0.9],
    't, 3 degrees of freedom': [0.94, 0.94, 0.93, 0.93],
  };
  const cases = (Object.keys(DISTRIBUTIONS) as Distribution[]).flatMap((distribution) =>
    [4, 8, 20, 48].map((n, i) => [distribution, n, least[distribution][i] as number] as const),
  );

  it.each(cases)('%s, n = %d: at least %d', (distribution, n, wanted) => {
    expectCoverage(meanCoverage(distribution, n, SETS, 500).covered, wanted);
  });

  it('is not had by width: normal figures are missed as often as is stated', () => {
    const missed = 1 - meanCoverage('normal', 8, 1000, 500).covered;
    expect(Math.abs(missed - 0.05)).toBeLessThan(4 * Math.sqrt((0.05 * 0.95) / 1000));
  });
});

describe('bootstrapInterval', () => {
  it('does not depend on the order of units', () => {
    fc.assert(
      fc.property(figures, fc.nat(), (values, seed) => {
        const shuffled = values
          .map((value, i) => ({ value, key: deriveSeed(seed, i) }))
          .sort((a, b) => a.key - b.key)
          .map(({ value }) => value);
        expect(interval(shuffled)).toEqual(interval(values));
      }),
      { seed: 1 },
    );
  });

  it('has no width where all units are equal', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 2, max: 9 }), (value, n) => {
        const { low, high } = interval(new Array<number>(n).fill(value)) as Interval;
        expect([low, high]).toEqual([value, value]);
      }),
      { seed: 1 },
    );
  });

  it('moves and grows with its values', () => {
    fc.assert(
      fc.property(figures, fc.constantFrom(0.5, 2, 4), fc.integer({ min: -9, max: 9 }), (values, factor, shift) => {
        const one = interval(values) as Interval;
        const other = interval(values.map((x) => x * factor + shift)) as Interval;
        expect(other.low).toBeCloseTo(one.low * factor + shift, 6);
        expect(other.high).toBeCloseTo(one.high * factor + shift, 6);
      }),
      { seed: 1 },
    );
  });

  it('narrows as the root of the number of units', () => {
    const widths = [10, 40, 160].map((n) => {
      const each = Array.from({ length: 20 }, (_, seed) => {
        const { low, high } = interval([...randn(seed, n)], seed) as Interval;
        return high - low;
      });
      return mean(each);
    }) as [number, number, number];
    expect(widths[0] / widths[1]).toBeGreaterThan(1.7);
    expect(widths[1] / widths[2]).toBeGreaterThan(1.7);
    expect(widths[1] / widths[2]).toBeLessThan(2.3);
  });

  it('is that of Student for many normal figures', () => {
    const values = [...randn(3, 400)];
    const spread = Math.sqrt(values.reduce((sum, x) => sum + (x - mean(values)) ** 2, 0) / 399 / 400);
    const { low, high } = interval(values) as Interval;
    expect(low).toBeCloseTo(mean(values) - 1.966 * spread, 1.7);
    expect(high).toBeCloseTo(mean(values) + 1.966 * spread, 1.7);
  });

  it('is wider at a higher level', () => {
    const values = [...randn(3, 20)];
    const width = (level: number): number => {
      const statistic = (indices: Int32Array): number => mean(Array.from(indices, (i) => values[i] as number));
      const found = bootstrapInterval(20, statistic, { level }) as Interval;
      expect(found.level).toBe(level);
      return found.high - found.low;
    };
    expect(width(0.99)).toBeGreaterThan(1.2 * width(0.95));
    expect(width(0.95)).toBeGreaterThan(1.1 * width(0.9));
  });

  it('draws other resamples for another seed, and the same for the same', () => {
    const values = [...randn(3, 20)];
    expect(interval(values, 1)).toEqual(interval(values, 1));
    expect(interval(values, 1)).not.toEqual(interval(values, 2));
  });

  it('holds the median, and bounds only one side where some units are infinite', () => {
    const { low, high } = interval([1, 2, 3, 4, 50], 0, median) as Interval;
    expect(low).toBeLessThan(3);
    expect(high).toBeGreaterThan(3);
    const open = interval([1, 2, 3, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY], 0, median) as Interval;
    expect(open.low).toBeLessThan(3);
    expect(open.high).toBe(Number.POSITIVE_INFINITY);
  });

  it.each([
    ['no unit', []],
    ['one unit', [3]],
    ['an infinite estimate', [1, Number.POSITIVE_INFINITY]],
    ['no number', [1, Number.NaN]],
  ])('is not given for %s', (_, values) => {
    expect(interval(values)).toBeUndefined();
  });

  it('draws every unit about as often', () => {
    const drawn = new Float64Array(7);
    const random = new MersenneTwister(1);
    const values = Array.from(drawn, () => random.uniform());
    bootstrapInterval(7, (indices) => {
      if (indices.length === 7) for (const i of indices) drawn[i] = (drawn[i] as number) + 1;
      return mean(Array.from(indices, (i) => values[i] as number));
    });
    for (const count of drawn) expect(Math.abs(count / 2001 - 1)).toBeLessThan(0.1);
  });
});
