import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bfloat16ToFloat32, float32ToHalf, fromHalf, halfToFloat32, toHalf } from '../../../src/numerics/half.js';

/** Float32 patterns as values. */
const floatsOf = (patterns: readonly number[]): Float32Array => new Float32Array(Uint32Array.from(patterns).buffer);

/** What single conversions give, in hexadecimal where it differs from the array's. */
function differences(patterns: readonly number[]): string[] {
  const values = floatsOf(patterns);
  const halves = float32ToHalf(values);
  return patterns.flatMap((pattern, i) => {
    const expected = toHalf(values[i] as number);
    return halves[i] === expected
      ? []
      : [`${pattern.toString(16)}: ${halves[i]?.toString(16)}, ${expected.toString(16)}`];
  });
}

const SIGNS = [0, 0x80000000];

describe('float32ToHalf', () => {
  it('gives what single values give, for any bit pattern', () => {
    const pattern = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.array(pattern, { minLength: 50, maxLength: 200 }), (patterns) => {
        expect(differences(patterns)).toEqual([]);
      }),
    );
  });

  it('gives what single values give, for patterns within reach of half precision', () => {
    const pattern = fc
      .record({
        sign: fc.constantFrom(...SIGNS),
        exponent: fc.integer({ min: 100, max: 145 }),
        mantissa: fc.nat(0x7fffff),
      })
      .map(({ sign, exponent, mantissa }) => (sign | (exponent << 23) | mantissa) >>> 0);
    fc.assert(
      fc.property(fc.array(pattern, { minLength: 50, maxLength: 200 }), (patterns) => {
        expect(differences(patterns)).toEqual([]);
      }),
    );
  });

  it('gives what single values give, for every exponent and the mantissas around a tie', () => {
    const upper = [0, 1, 2, 0x155, 0x200, 0x3fe, 0x3ff];
    const lower = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff];
    const mantissas = upper.flatMap((high) => lower.map((low) => (high << 13) | low));
    const patterns = SIGNS.flatMap((sign) =>
      Array.from({ length: 256 }, (_, exponent) =>
        mantissas.map((mantissa) => (sign | (exponent << 23) | mantissa) >>> 0),
      ).flat(),
    );
    expect(patterns).toHaveLength(2 * 256 * 42);
    expect(differences(patterns)).toEqual([]);
  });

  it.each([
    ['the smallest normal value', 0x38800000, 0x0400],
    ['what rounds up to the smallest normal value', 0x387fffff, 0x0400],
    ['what rounds up past its mantissa', 0x3fffffff, 0x4000],
    ['the largest value', 0x477fe000, 0x7bff],
    ['the last that rounds down to the largest value', 0x477fefff, 0x7bff],
    ['the first that rounds up to infinity', 0x477ff000, 0x7c00],
    ['a tie that rounds down to even', 0x3f801000, 0x3c00],
    ['a tie that rounds up to even', 0x3f803000, 0x3c02],
    ['minus a third', 0xbeaaaaab, 0xb555],
  ])('takes %s, pattern %i, to %i', (_, pattern, half) => {
    expect([...float32ToHalf(floatsOf([pattern]))]).toEqual([half]);
  });

  it('reads a part of a larger array', () => {
    const values = Float32Array.of(9, 1, -2, 9).subarray(1, 3);
    expect([...float32ToHalf(values)]).toEqual([0x3c00, 0xc000]);
  });
});

describe('an array to write into', () => {
  it('is filled from its start by float32ToHalf, and is what it returns', () => {
    const buffer = new ArrayBuffer(10);
    const out = new Uint16Array(buffer, 2, 3);
    expect(float32ToHalf(Float32Array.of(1, -2), out)).toBe(out);
    expect([...new Uint16Array(buffer)]).toEqual([0, 0x3c00, 0xc000, 0, 0]);
  });

  it('is filled from its start by halfToFloat32, and is what it returns', () => {
    const buffer = new ArrayBuffer(20);
    const out = new Float32Array(buffer, 4, 3);
    expect(halfToFloat32(Uint16Array.of(0x3c00, 0xc000), out)).toBe(out);
    expect([...new Float32Array(buffer)]).toEqual([0, 1, -2, 0, 0]);
  });

  it('is filled from its start by bfloat16ToFloat32, and is what it returns', () => {
    const buffer = new ArrayBuffer(20);
    const out = new Float32Array(buffer, 4, 3);
    expect(bfloat16ToFloat32(Uint16Array.of(0x3f80, 0xc000), out)).toBe(out);
    expect([...new Float32Array(buffer)]).toEqual([0, 1, -2, 0, 0]);
  });

  it('holds what a new array would hold, whatever was in it', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(0xffff), { maxLength: 40 }), (patterns) => {
        const halves = Uint16Array.from(patterns);
        const values = halfToFloat32(halves, new Float32Array(patterns.length).fill(Number.NaN));
        expect(values).toEqual(Float32Array.from(patterns, fromHalf));
        expect(float32ToHalf(values, new Uint16Array(patterns.length).fill(7))).toEqual(float32ToHalf(values));
      }),
    );
  });
});
