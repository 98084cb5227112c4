import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addDifferences, cosine, difference, mean, median, relativeError, sqnr } from '../../../src/numerics/stats.js';

describe('difference', () => {
  it('sums squares, squared differences and products', () => {
    expect(difference([3, 4], [3, 2])).toEqual({ signal: 25, noise: 4, other: 13, product: 17 });
  });

  it('refuses signals of different lengths', () => {
    expect(() => difference([1], [1, 2])).toThrow(RangeError);
  });

  it('adds up over parts', () => {
    const signal = fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(signal, signal, fc.nat({ max: 6 }), (a, b, cut) => {
        const head = difference(a.slice(0, cut), b.slice(0, cut));
        const tail = difference(a.slice(cut), b.slice(cut));
        expect(addDifferences(head, tail)).toEqual(difference(a, b));
      }),
    );
  });
});

describe('sqnr', () => {
  it('is 20 dB at a tenth of the amplitude', () => {
    expect(sqnr(difference([10, -10], [11, -11]))).toBeCloseTo(20, 12);
  });

  it('is infinite for equal signals, zeros too', () => {
    expect(sqnr(difference([1, 2], [1, 2]))).toBe(Number.POSITIVE_INFINITY);
    expect(sqnr(difference([0], [0]))).toBe(Number.POSITIVE_INFINITY);
  });

  it('is minus infinity for noise without a signal', () => {
    expect(sqnr(difference([0], [1]))).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe('relativeError', () => {
  it('is the norm of the difference over that of the reference', () => {
    expect(relativeError(difference([3, 4], [3, 2]))).toBeCloseTo(2 / 5, 12);
    expect(relativeError(difference([0], [0]))).toBe(0);
    expect(relativeError(difference([0], [1]))).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('cosine', () => {
  it.each([
    [[1, 0], [5, 0], 1],
    [[1, 0], [0, 2], 0],
    [[1, 2], [-2, -4], -1],
    [[1, 0], [1, 1], Math.SQRT1_2],
  ])('of %j and %j is %d', (a, b, expected) => {
    expect(cosine(difference(a, b))).toBeCloseTo(expected, 12);
  });
});

describe('mean and median', () => {
  it.each([
    [[4], 4, 4],
    [[10, 1, 2], 13 / 3, 2],
    [[10, 1, 2, 3], 4, 2.5],
    [[-1, -10, -2], -13 / 3, -2],
    [[9, 10, 100], 119 / 3, 10],
  ])('of %j are %d and %d', (values, expectedMean, expectedMedian) => {
    expect(mean(values)).toBeCloseTo(expectedMean, 12);
    expect(median(values)).toBe(expectedMedian);
  });

  it('are NaN of nothing', () => {
    expect(mean([])).toBeNaN();
    expect(median([])).toBeNaN();
  });

  it('leave their argument as it was', () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});
