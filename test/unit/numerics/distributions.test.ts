import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { normalQuantile, studentQuantile } from '../../../src/numerics/distributions.js';

const probability = fc.double({ min: 1e-4, max: 1 - 1e-4, noNaN: true });

function expectRelative(actual: number, wanted: number): void {
  expect(Math.abs(actual - wanted)).toBeLessThanOrEqual(1e-11 * (Math.abs(wanted) || 1));
}

describe('normalQuantile', () => {
  it.each([
    [0.5, 0],
    [0.6, 0.2533471031357997],
    [0.975, 1.959963984540054],
    [0.995, 2.5758293035489004],
    [0.0001, -3.7190164854556804],
  ])('of %d is what scipy.stats.norm.ppf gives: %d', (p, expected) => {
    expectRelative(normalQuantile(p), expected);
  });

  it.each([0, 1, -0.1, Number.NaN])('refuses %d', (p) => {
    expect(() => normalQuantile(p)).toThrow(RangeError);
  });
});

describe('studentQuantile', () => {
  it.each([
    [0.975, 1, 12.706204736174694],
    [0.975, 2, 4.302652729749462],
    [0.975, 3, 3.1824463052837078],
    [0.975, 7, 2.364624251592784],
    [0.975, 19, 2.0930240544083087],
    [0.975, 47, 2.0117405137297655],
    [0.975, 499, 1.9647293909876886],
    [0.6, 5, 0.2671808657041451],
    [0.995, 4, 4.604094871349992],
    [0.0001, 1, -3183.0987571181513],
    [0.0001, 48, -4.027220125157573],
  ])('of %d with %d degrees of freedom is what scipy.stats.t.ppf gives: %d', (p, degrees, expected) => {
    expectRelative(studentQuantile(p, degrees), expected);
  });

  it('is tan(pi (p - 1/2)) with one degree of freedom', () => {
    fc.assert(
      fc.property(probability, (p) => expectRelative(studentQuantile(p, 1), Math.tan(Math.PI * (p - 0.5)))),
      { seed: 1 },
    );
  });

  it('is odd about 1/2, grows with p and nears the normal quantile from outside', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 501, max: 999 }), (degrees, thousandths) => {
        const p = thousandths / 1000;
        const t = studentQuantile(p, degrees);
        expectRelative(studentQuantile(1 - p, degrees), -t);
        expect(studentQuantile(p + 0.0005, degrees)).toBeGreaterThan(t);
        expect(studentQuantile(p, degrees + 1)).toBeLessThan(t);
        expect(normalQuantile(p)).toBeLessThan(t);
      }),
      { seed: 1 },
    );
  });
});
