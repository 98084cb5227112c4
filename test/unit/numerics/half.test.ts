import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bfloat16ToFloat32,
  ceilToHalf,
  float32ToHalf,
  fromHalf,
  HALF_MAX,
  halfToFloat32,
  toHalf,
} from '../../../src/numerics/half.js';
import { finiteFloat } from '../helpers/floats.js';

const PATTERNS = Array.from({ length: 65536 }, (_, pattern) => pattern);
const INFINITY = 0x7c00;
const isNaNPattern = (pattern: number): boolean => (pattern & 0x7fff) > INFINITY;

describe('fromHalf', () => {
  it.each([
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3555, 0.333251953125],
    [0x3c00, 1],
    [0x3c01, 1 + 2 ** -10],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0xfc00, Number.NEGATIVE_INFINITY],
    [0x8000, -0],
  ])('reads %i as %d', (pattern, value) => {
    expect(fromHalf(pattern)).toBe(value);
  });

  it('grows with the pattern, from zero to infinity', () => {
    const values = PATTERNS.slice(0, INFINITY + 1).map(fromHalf);
    expect(values.findIndex((value, i) => i > 0 && value <= (values[i - 1] as number))).toBe(-1);
    expect(fromHalf(INFINITY - 1)).toBe(HALF_MAX);
  });
});

describe('toHalf', () => {
  it('gives back every pattern', () => {
    const lost = PATTERNS.filter((pattern) =>
      isNaNPattern(pattern) ? !isNaNPattern(toHalf(fromHalf(pattern))) : toHalf(fromHalf(pattern)) !== pattern,
    );
    expect(lost).toEqual([]);
  });

  /** Values of all finite patterns and, where infinity begins to be nearer, the value that would come next. */
  const ladder = [...PATTERNS.slice(0, INFINITY).map(fromHalf), 65536];

  function nearest(magnitude: number): number {
    if (magnitude >= 65536) return INFINITY;
    const above = ladder.findIndex((value) => value > magnitude);
    const [down, up] = [ladder[above - 1] as number, ladder[above] as number];
    if (magnitude - down !== up - magnitude) return magnitude - down < up - magnitude ? above - 1 : above;
    return (above - 1) % 2 === 0 ? above - 1 : above;
  }

  it('rounds float32 to the nearest pattern, ties to even', () => {
    const midpoint = fc
      .record({ pattern: fc.nat({ max: INFINITY - 1 }), negative: fc.boolean() })
      .map(({ pattern, negative }) => {
        const middle = ((ladder[pattern] as number) + (ladder[pattern + 1] as number)) / 2;
        return negative ? -middle : middle;
      });
    const inRange = fc.float({ min: -65536, max: 65536, noNaN: true });
    const small = fc.float({ min: Math.fround(-1e-6), max: Math.fround(1e-6), noNaN: true });
    fc.assert(
      fc.property(fc.oneof(midpoint, inRange, small, finiteFloat()), (value) => {
        const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
        expect(toHalf(value)).toBe(sign | nearest(Math.abs(value)));
      }),
      { numRuns: 400 },
    );
  });

  it.each([
    [65519.99609375, 0x7bff],
    [65520, INFINITY],
    [-65520, 0x8000 | INFINITY],
    [3.4e38, INFINITY],
    [Number.POSITIVE_INFINITY, INFINITY],
    [Number.NEGATIVE_INFINITY, 0x8000 | INFINITY],
    [2 ** -25, 0],
    [1.0000001 * 2 ** -25, 1],
  ])('takes %d to pattern %i', (value, pattern) => {
    expect(toHalf(value)).toBe(pattern);
  });
});

describe('ceilToHalf', () => {
  it('keeps every positive value that is one', () => {
    const patterns = PATTERNS.slice(1, INFINITY);
    expect(patterns.filter((pattern) => ceilToHalf(fromHalf(pattern)) !== fromHalf(pattern))).toEqual([]);
  });

  it('gives the next of all others, and never one below', () => {
    const between = fc
      .record({ pattern: fc.nat({ max: INFINITY - 2 }), share: fc.double({ min: 0, max: 1, noNaN: true }) })
      .map(({ pattern, share }) => fromHalf(pattern) + share * (fromHalf(pattern + 1) - fromHalf(pattern)));
    const positive = fc.oneof(
      between,
      finiteFloat().map(Math.abs),
      fc.double({ min: 0, max: HALF_MAX, noNaN: true }),
      fc.double({ min: 0, max: 1e-4, noNaN: true }),
    );
    fc.assert(
      fc.property(positive, (value) => {
        fc.pre(value > 0 && value <= HALF_MAX);
        const pattern = toHalf(ceilToHalf(value));
        expect(fromHalf(pattern)).toBe(ceilToHalf(value));
        expect(fromHalf(pattern)).toBeGreaterThanOrEqual(value);
        expect(fromHalf(pattern - 1)).toBeLessThan(value);
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    [2 ** -149, 2 ** -24],
    [2 ** -126, 2 ** -24],
    [2 ** -25, 2 ** -24],
    [1.5 * 2 ** -24, 2 ** -23],
    [2 ** -14 - 2 ** -30, 2 ** -14],
    [1 + 2 ** -23, 1 + 2 ** -10],
    [1 + 2 ** -52, 1 + 2 ** -10],
    [65_503, 65_504],
    [65_505, 65_504],
    [1e30, 65_504],
    [Number.POSITIVE_INFINITY, 65_504],
  ])('takes %d to %d', (value, expected) => {
    expect(ceilToHalf(value)).toBe(expected);
  });
});

describe('arrays of half floats', () => {
  it('agree with single values', () => {
    const patterns = Uint16Array.from(PATTERNS);
    const values = halfToFloat32(patterns);
    expect(PATTERNS.filter((pattern, i) => !Object.is(values[i], fromHalf(pattern)))).toEqual([]);
    const back = float32ToHalf(values);
    expect(PATTERNS.filter((pattern, i) => back[i] !== toHalf(fromHalf(pattern)))).toEqual([]);
  });
});

describe('bfloat16ToFloat32', () => {
  it('takes a pattern as the upper half of a float32', () => {
    const bytes = new DataView(new ArrayBuffer(4));
    const expected = PATTERNS.map((pattern) => {
      bytes.setUint16(0, pattern);
      return bytes.getFloat32(0);
    });
    expect([...bfloat16ToFloat32(Uint16Array.from(PATTERNS))]).toEqual(expected);
  });
});
