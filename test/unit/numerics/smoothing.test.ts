import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HALF_MAX } from '../../../src/numerics/half.js';
import { smoothingFactors } from '../../../src/numerics/smoothing.js';
import { finiteFloat } from '../helpers/floats.js';

/** Largest magnitudes of an activation and of the weights that read it, channel by channel. */
const channels = (magnitude: fc.Arbitrary<number>) =>
  fc
    .array(fc.tuple(magnitude, magnitude), { minLength: 1, maxLength: 24 })
    .map((pairs) => [Float32Array.from(pairs, ([x]) => x), Float32Array.from(pairs, ([, w]) => w)] as const);

const usual = fc.double({ min: 1 / 64, max: 64, noNaN: true });
const extreme = finiteFloat().map((x) => Math.min(Math.abs(x), 1e6));
const alphas = fc.double({ min: 0, max: 1, noNaN: true });

const geometricMean = (values: ArrayLike<number>): number =>
  2 ** (Array.from(values, Math.log2).reduce((a, b) => a + b, 0) / values.length);

/** Ratio of every channel's value to the first one's. */
const ratios = (values: ArrayLike<number>): number[] => Array.from(values, (value) => value / (values[0] as number));

/** Whether no magnitude is among those that count as zero. */
const aboveZero = (magnitudes: Float32Array): boolean => magnitudes.every((magnitude) => magnitude > 1e-6);

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) {
    const [a, b] = [actual[i] as number, expected[i] as number];
    expect(Math.abs(a - b), `channel ${i}: ${a}, not ${b}`).toBeLessThanOrEqual(tolerance * Math.abs(b));
  }
}

describe('smoothingFactors', () => {
  it('are max|x|^alpha / max|w|^(1 - alpha), up to one factor for all channels', () => {
    fc.assert(
      fc.property(channels(usual), alphas, ([x, w], alpha) => {
        const plain = Float64Array.from(x, (magnitude, k) => magnitude ** alpha / (w[k] as number) ** (1 - alpha));
        expectClose(ratios(smoothingFactors(x, w, alpha)), ratios(plain));
      }),
    );
  });

  it('have a geometric mean of 1', () => {
    fc.assert(
      fc.property(channels(usual), alphas, ([x, w], alpha) => {
        expect(geometricMean(smoothingFactors(x, w, alpha))).toBeCloseTo(1, 5);
      }),
    );
  });

  it('are positive numbers, whatever the magnitudes', () => {
    fc.assert(
      fc.property(channels(extreme), alphas, ([x, w], alpha) => {
        expect(smoothingFactors(x, w, alpha).every((factor) => factor > 0 && Number.isFinite(factor))).toBe(true);
      }),
    );
  });

  it('have room in FP16, they and their reciprocals, for channels that were always zero too', () => {
    fc.assert(
      fc.property(channels(fc.oneof(usual, fc.constant(0))), alphas, ([x, w], alpha) => {
        for (const factor of smoothingFactors(x, w, alpha)) {
          for (const value of [factor, 1 / factor]) expect(value >= 2 ** -14 && value <= HALF_MAX).toBe(true);
        }
      }),
    );
  });

  it('leave the product as it was, within the rounding of two float32 operations on each side', () => {
    const value = fc.double({ min: -100, max: 100, noNaN: true }).map(Math.fround);
    fc.assert(
      fc.property(fc.array(fc.tuple(value, value), { minLength: 1, maxLength: 24 }), alphas, (pairs, alpha) => {
        const magnitudes = [0, 1].map((side) => Float32Array.from(pairs, (pair) => Math.abs(pair[side] as number)));
        const factors = smoothingFactors(...(magnitudes as [Float32Array, Float32Array]), alpha);
        pairs.forEach(([x, w], k) => {
          const factor = factors[k] as number;
          const product = Math.fround(x / factor) * Math.fround(w * factor);
          // Below the smallest normal number there are fewer digits to round to.
          expect(Math.abs(product - x * w)).toBeLessThanOrEqual(2 ** -22 * Math.abs(x * w) + 2 ** -100);
        });
      }),
    );
  });

  it('of alpha 1 make the activation flat, and of alpha 0 the weight', () => {
    fc.assert(
      fc.property(channels(usual), ([x, w]) => {
        const flat = new Float64Array(x.length).fill(1);
        const [one, zero] = [smoothingFactors(x, w, 1), smoothingFactors(x, w, 0)];
        expectClose(ratios(x.map((magnitude, k) => magnitude / (one[k] as number))), flat);
        expectClose(ratios(w.map((magnitude, k) => magnitude * (zero[k] as number))), flat);
      }),
    );
  });

  it('of alpha 0.5 leave activation and weight with equal magnitudes in every channel, up to one factor for all', () => {
    const [x, w] = [Float32Array.of(64, 1, 0.25), Float32Array.of(1, 0.25, 4)];
    const factors = smoothingFactors(x, w, 0.5);
    const smoothed = x.map((magnitude, k) => magnitude / (factors[k] as number));
    const grown = w.map((magnitude, k) => magnitude * (factors[k] as number));
    expectClose(ratios(smoothed), ratios(grown));
  });

  it('do not depend on the scale of a whole side', () => {
    fc.assert(
      fc.property(channels(usual), alphas, fc.integer({ min: -20, max: 20 }), ([x, w], alpha, exponent) => {
        const scaled = (values: Float32Array): Float32Array => values.map((value) => value * 2 ** exponent);
        fc.pre(aboveZero(scaled(x)) && aboveZero(scaled(w)));
        expectClose(smoothingFactors(scaled(x), w, alpha), smoothingFactors(x, w, alpha));
        expectClose(smoothingFactors(x, scaled(w), alpha), smoothingFactors(x, w, alpha));
      }),
    );
  });

  it.each([0, 0.5, 1])('at alpha %d are finite for channels that were always zero on either side', (alpha) => {
    const factors = smoothingFactors(Float32Array.of(0, 1, 0, 2), Float32Array.of(1, 0, 0, 2), alpha);
    expect(factors.every((factor) => factor > 0 && Number.isFinite(factor))).toBe(true);
    expect([...smoothingFactors(Float32Array.of(0), Float32Array.of(0), alpha)]).toEqual([1]);
  });
});
