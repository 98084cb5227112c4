import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { growthCoverage, pairedFeatures } from '../../../../bench/lib/coverage.js';
import { FrechetTruth, featureStatistics, frechetDistance } from '../../../../src/evaluate/metrics/frechet.js';
import { frechetGrowth } from '../../../../src/evaluate/metrics/frechet-growth.js';
import { kernelDistance } from '../../../../src/evaluate/metrics/kernel.js';
import type { Interval } from '../../../../src/numerics/bootstrap.js';
import { randn } from '../../../../src/numerics/rng.js';
import { mean } from '../../../../src/numerics/stats.js';

const DIM = 4;

function normalSet(seed: number, count: number, scale = 1, shift = 0): Float64Array[] {
  const values = randn(seed, count * DIM);
  return Array.from({ length: count }, (_, i) =>
    Float64Array.from(values.subarray(i * DIM, (i + 1) * DIM), (x) => x * scale + shift),
  );
}

const truth = new FrechetTruth(featureStatistics(normalSet(1, 300)));
const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('featureStatistics', () => {
  it('are the mean and the unbiased covariance', () => {
    const {
      count,
      mean: center,
      covariance,
    } = featureStatistics([
      [1, 2],
      [3, 8],
      [5, 5],
    ]);
    expect(count).toBe(3);
    expect([...center]).toEqual([3, 5]);
    expect([...covariance]).toEqual([4, 3, 3, 9]);
  });
});

describe('frechetDistance', () => {
  it('is that of the means for equal covariances, and of the deviations for equal means', () => {
    const covariance = Float64Array.of(4, 0, 0, 9);
    const one = { count: 10, mean: Float64Array.of(0, 0), covariance };
    expect(frechetDistance(one, { ...one, mean: Float64Array.of(3, 4) })).toBeCloseTo(25, 12);
    expect(frechetDistance(one, { ...one, covariance: Float64Array.of(16, 0, 0, 9) })).toBeCloseTo((4 - 2) ** 2, 12);
  });
});

describe('FrechetTruth.influences', () => {
  it('are the derivatives of the distance by the weights of the vectors', () => {
    const set = normalSet(2, 12, 1.3, 0.4);
    const { distance, influences } = truth.influences(set);
    expect(distance).toBeCloseTo(truth.distance(featureStatistics(set)), 12);
    const step = 1e-4;
    for (const [k, influence] of influences.entries()) {
      const weights = set.map((_, i) => (1 - step) / set.length + (i === k ? step : 0));
      const moved = truth.distance(weightedStatistics(set, weights));
      expect((moved - distance) / step).toBeCloseTo(influence, 2);
    }
    expect(Math.abs(mean([...influences]))).toBeLessThan(1e-12);
  });

  it('are finite where the set has fewer vectors than dimensions', () => {
    expect(truth.influences(normalSet(2, 3)).influences.every(Number.isFinite)).toBe(true);
  });
});

/** Covariance of weighted vectors, unbiased for equal weights. */
function weightedStatistics(set: readonly Float64Array[], weights: readonly number[]) {
  const center = Float64Array.from({ length: DIM }, (_, i) =>
    sumOver(set, (x, k) => (weights[k] as number) * (x[i] as number)),
  );
  const unbiased = set.length / (set.length - 1);
  const covariance = Float64Array.from({ length: DIM * DIM }, (_, at) => {
    const [i, j] = [Math.floor(at / DIM), at % DIM];
    return sumOver(
      set,
      (x, k) =>
        unbiased *
        (weights[k] as number) *
        ((x[i] as number) - (center[i] as number)) *
        ((x[j] as number) - (center[j] as number)),
    );
  });
  return { count: set.length, mean: center, covariance };
}

function sumOver(set: readonly Float64Array[], of: (x: Float64Array, k: number) => number): number {
  return set.reduce((sum, x, k) => sum + of(x, k), 0);
}

describe('Frechet distances of sets that have none', () => {
  const broken = normalSet(2, 20).map((x, i) => (i === 3 ? x.with(1, Number.NaN) : x));

  it('are NaN of features that are, and end', () => {
    expect(truth.distance(featureStatistics(broken))).toBeNaN();
    expect(new FrechetTruth(featureStatistics(broken)).distance(featureStatistics(normalSet(2, 20)))).toBeNaN();
    for (const pair of [
      { reference: normalSet(3, 20), quantized: broken },
      { reference: broken, quantized: normalSet(3, 20) },
    ]) {
      const { growth, interval } = frechetGrowth(truth, pair, numbers(20));
      expect([growth, interval]).toEqual([Number.NaN, undefined]);
    }
  });

  it('are finite of covariances that are singular, whose smallest eigenvalues round below 0', () => {
    const flat = normalSet(5, 30).map((x) => x.map((_, i) => x[i % 2] as number));
    for (const of of [flat, flat.map((x) => x.fill(0.5))]) {
      const distance = new FrechetTruth(featureStatistics(of)).distance(featureStatistics(normalSet(2, 20)));
      expect(distance).toBeGreaterThan(0);
      expect(truth.distance(featureStatistics(of))).toBeGreaterThan(0);
    }
  });

  it('make no growth where the reference is at the truth', () => {
    const same = normalSet(2, 20);
    const own = new FrechetTruth(featureStatistics(same));
    const constant = same.map((x) => x.map(() => 1));
    const at = new FrechetTruth(featureStatistics(constant));
    expect(frechetGrowth(at, { reference: constant, quantized: normalSet(9, 20) }, numbers(20)).growth).toBeNaN();
    const { reference, growth } = frechetGrowth(own, { reference: same, quantized: normalSet(9, 20) }, numbers(20));
    expect(Math.abs(reference)).toBeLessThan(1e-9);
    expect(growth > 1e6 || Number.isNaN(growth)).toBe(true);
  });
});

describe('frechetGrowth', () => {
  it.each([
    { dim: 8, prompts: 48, seedsPerPrompt: 1, skewed: false, damage: 0.04 },
    { dim: 8, prompts: 48, seedsPerPrompt: 1, skewed: true, damage: 0.04 },
    { dim: 16, prompts: 24, seedsPerPrompt: 2, skewed: false, damage: 0.01 },
  ])('covers the expected growth: $prompts prompts x $seedsPerPrompt, $dim features, skewed $skewed', (one) => {
    const sets = 200;
    const { covered, growth, width } = growthCoverage(one, sets, 400);
    expect(growth).toBeGreaterThan(0.01);
    expect(covered).toBeGreaterThan(0.95 - 4 * Math.sqrt((0.95 * 0.05) / sets));
    // An interval that holds everything tells nothing.
    expect(width).toBeLessThan(1.5 * growth);
  });

  it('is exactly zero, without width, for identical models', () => {
    const set = normalSet(2, 20, 1.3);
    const { growth, interval } = frechetGrowth(
      truth,
      { reference: set, quantized: set.map((x) => x.slice()) },
      numbers(20),
    );
    expect(growth).toBe(0);
    expect(interval).toEqual({ low: 0, high: 0, level: 0.95 });
  });

  it('does not depend on the order of takes', () => {
    const { reference, quantized } = pairedFeatures(
      { dim: DIM, prompts: 10, seedsPerPrompt: 2, skewed: false, damage: 0.02 },
      5,
    );
    const prompts = numbers(20).map((i) => i >> 1);
    const found = frechetGrowth(truth, { reference, quantized }, prompts);
    const reversed = frechetGrowth(
      truth,
      { reference: reference.toReversed(), quantized: quantized.toReversed() },
      prompts.toReversed(),
    );
    expect(reversed.growth).toBeCloseTo(found.growth, 10);
    expect(reversed.interval?.low).toBeCloseTo(found.interval?.low as number, 10);
    expect(reversed.interval?.high).toBeCloseTo(found.interval?.high as number, 10);
  });

  it('narrows with more prompts, and not with copies of their takes', () => {
    const width = (prompts: number, copies = 1): number => {
      const { reference, quantized } = pairedFeatures(
        { dim: DIM, prompts, seedsPerPrompt: 1, skewed: false, damage: 0.02 },
        5,
      );
      const repeat = (set: Float64Array[]): Float64Array[] =>
        set.flatMap((x) => new Array<Float64Array>(copies).fill(x));
      const ofPrompt = numbers(prompts * copies).map((i) => Math.floor(i / copies));
      const pair = { reference: repeat(reference), quantized: repeat(quantized) };
      const { low, high } = frechetGrowth(truth, pair, ofPrompt).interval as Interval;
      return high - low;
    };
    expect(width(400)).toBeLessThan(0.5 * width(40));
    expect(width(40, 5) / width(40)).toBeGreaterThan(0.85);
  });

  it('has no interval with one prompt', () => {
    const pair = { reference: normalSet(2, 9), quantized: normalSet(3, 9) };
    expect(frechetGrowth(truth, pair, new Array<number>(9).fill(0)).interval).toBeUndefined();
  });
});

describe('kernelDistance', () => {
  it('is zero on average for sets of one distribution, and not for others', () => {
    const same = numbers(200).map((seed) => kernelDistance(normalSet(2 * seed, 20), normalSet(2 * seed + 1, 20)));
    const error = Math.sqrt(mean(same.map((x) => (x - mean(same)) ** 2)) / 200);
    expect(Math.abs(mean(same))).toBeLessThan(4 * error);
    const other = numbers(50).map((seed) =>
      kernelDistance(normalSet(2 * seed, 20), normalSet(2 * seed + 1, 20, 1, 0.7)),
    );
    expect(mean(other)).toBeGreaterThan(10 * error);
  });

  it('is the definition on two vectors a set', () => {
    const k = (x: number, y: number): number => (x * y + 1) ** 3;
    const expected = k(1, 2) + k(3, 5) - (2 * (k(1, 3) + k(1, 5) + k(2, 3) + k(2, 5))) / 4;
    expect(kernelDistance([[1], [2]], [[3], [5]])).toBeCloseTo(expected, 10);
  });

  it('does not depend on order, within or between the sets', () => {
    const vectors = fc.array(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 3, maxLength: 3 }), {
      minLength: 2,
      maxLength: 6,
    });
    fc.assert(
      fc.property(vectors, vectors, (a, b) => {
        const found = kernelDistance(a, b);
        expect(kernelDistance(a.toReversed(), b)).toBeCloseTo(found, 6);
        expect(kernelDistance(b, a)).toBeCloseTo(found, 6);
      }),
      { seed: 1 },
    );
  });

  it('refuses fewer than two vectors and vectors of different lengths', () => {
    expect(() => kernelDistance([[1]], [[1], [2]])).toThrow(/two vectors in each set/);
    expect(() => kernelDistance([[1], [2]], [[1], [2, 3]])).toThrow(/differ in length/);
  });
});
