import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHalf, HALF_MAX, toHalf } from '../../../src/numerics/half.js';
import { activationScale, quantizeWeight, roundHalfEven, weightScales } from '../../../src/numerics/int8.js';
import { finiteFloat, floatOf } from '../helpers/floats.js';

/** A zero without its sign. */
const unsigned = (value: number): number => value + 0;

describe('roundHalfEven', () => {
  it.each([
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [-0.5, 0],
    [-1.5, -2],
    [-2.5, -2],
    [0.49999999999999994, 0],
    [-126.5, -126],
    [126.50000000000001, 127],
    [2 ** 50 + 0.5, 2 ** 50],
    [2 ** 50 + 1.5, 2 ** 50 + 2],
  ])('rounds %d to %d', (value, expected) => {
    expect(unsigned(roundHalfEven(value))).toBe(expected);
  });

  it('gives the nearest integer, and the even one of two equally near', () => {
    const values = fc.oneof(
      fc.double({ min: -(2 ** 50), max: 2 ** 50, noNaN: true }),
      fc.double({ min: -300, max: 300, noNaN: true }),
      fc.integer({ min: -1000, max: 1000 }).map((value) => value / 2),
    );
    fc.assert(
      fc.property(values, (value) => {
        const below = Math.floor(value);
        const fraction = value - below;
        const tie = below % 2 === 0 ? below : below + 1;
        const expected = fraction < 0.5 ? below : fraction > 0.5 ? below + 1 : tie;
        expect(unsigned(roundHalfEven(value))).toBe(unsigned(expected));
      }),
    );
  });
});

const matrix = fc
  .record({ rows: fc.integer({ min: 1, max: 6 }), columns: fc.integer({ min: 1, max: 6 }) })
  .chain(({ rows, columns }) =>
    fc.record({
      rows: fc.constant(rows),
      columns: fc.constant(columns),
      weight: fc
        .array(fc.oneof(fc.float({ min: -4, max: 4, noNaN: true }), fc.constantFrom(0, -0, 1e-20, 3e38)), {
          minLength: rows * columns,
          maxLength: rows * columns,
        })
        .map((values) => Float32Array.from(values, (value) => (Math.abs(value) < 1e-30 ? 0 : value))),
    }),
  );

function transpose<T extends Float32Array | Int8Array>(values: T, rows: number, columns: number): number[] {
  return Array.from(
    { length: rows * columns },
    (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number,
  );
}

describe('quantizeWeight', () => {
  it('quantizes each row by its largest magnitude', () => {
    const { values, scales } = quantizeWeight(Float32Array.of(127, -63.5, 1, 0, 2, -254), 2, 3, 0);
    expect([...scales]).toEqual([1, 2]);
    expect([...values]).toEqual([127, -64, 1, 0, 1, -127]);
  });

  it('quantizes each column by its largest magnitude', () => {
    const { values, scales } = quantizeWeight(Float32Array.of(127, -63.5, 2, 254), 2, 2, 1);
    expect([...scales]).toEqual([1, 2]);
    expect([...values]).toEqual([127, -32, 2, 127]);
  });

  it('stays within half a step of every weight, in [-127, 127], with valid scales', () => {
    fc.assert(
      fc.property(matrix, fc.constantFrom<0 | 1>(0, 1), ({ rows, columns, weight }, axis) => {
        const { values, scales } = quantizeWeight(weight, rows, columns, axis);
        expect(scales).toHaveLength(axis === 0 ? rows : columns);
        expect(scales.every((scale) => scale > 0 && scale < Number.POSITIVE_INFINITY)).toBe(true);
        weight.forEach((w, i) => {
          const scale = scales[axis === 0 ? Math.floor(i / columns) : i % columns] as number;
          const q = values[i] as number;
          expect(Math.abs(q)).toBeLessThanOrEqual(127);
          expect(Math.abs(q * scale - w)).toBeLessThanOrEqual((scale / 2) * (1 + 2 ** -15));
        });
      }),
    );
  });

  it('reaches 127 in every channel that is not all zeros', () => {
    fc.assert(
      fc.property(matrix, ({ rows, columns, weight }) => {
        const { values } = quantizeWeight(weight, rows, columns, 0);
        for (let row = 0; row < rows; row++) {
          const part = [row * columns, (row + 1) * columns] as const;
          const used = weight.subarray(...part).some((w) => w !== 0);
          expect(Math.max(...values.subarray(...part).map(Math.abs))).toBe(used ? 127 : 0);
        }
      }),
    );
  });

  it('gives zeros and the smallest normal scale for a channel of zeros', () => {
    const { values, scales } = quantizeWeight(Float32Array.of(0, -0, 5, 5), 2, 2, 0);
    expect([...values]).toEqual([0, 0, 127, 127]);
    expect(scales[0]).toBe(2 ** -126);
  });

  it('gives the same for one axis as for the other of the transpose', () => {
    fc.assert(
      fc.property(matrix, ({ rows, columns, weight }) => {
        const byRow = quantizeWeight(weight, rows, columns, 0);
        const flipped = Float32Array.from(transpose(weight, rows, columns));
        const byColumn = quantizeWeight(flipped, columns, rows, 1);
        expect(byColumn.scales).toEqual(byRow.scales);
        expect([...byColumn.values]).toEqual(transpose(byRow.values, rows, columns));
      }),
    );
  });

  it.each([2 ** -149, 180 * 2 ** -149])('stays within half a step of a channel whose largest weight is %d', (w) => {
    const { values, scales } = quantizeWeight(Float32Array.of(w), 1, 1, 0);
    const scale = scales[0] as number;
    expect(scale).toBeGreaterThan(0);
    expect(Math.abs((values[0] as number) * scale - w)).toBeLessThanOrEqual(scale / 2);
  });
});

const isHalf = (value: number): boolean => fromHalf(toHalf(value)) === value;

describe('scales of float16', () => {
  /** Magnitudes up to what the largest scale covers, many of them so small that scales are subnormal. */
  const magnitude = fc.oneof(
    fc.float({ min: 0, max: 127 * HALF_MAX, noNaN: true }),
    fc.float({ min: 0, max: Math.fround(127 * 2 ** -14), noNaN: true }),
    fc.float({ min: 0, max: Math.fround(2 ** -120), noNaN: true }),
    finiteFloat().map((value) => Math.min(Math.abs(value), 127 * HALF_MAX)),
    fc.nat({ max: 0x7bff }).map((pattern) => Math.fround(127 * fromHalf(pattern))),
  );

  it('let no code leave [-127, 127]', () => {
    fc.assert(
      fc.property(magnitude, fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { maxLength: 8 }), (most, shares) => {
        const weight = Float32Array.from([1, -1, ...shares], (share) => share * most);
        const [scale] = weightScales(Float32Array.of(most), 'float16') as unknown as [number];
        expect(isHalf(scale) && scale > 0).toBe(true);
        const codes = [...weight].map((value) => roundHalfEven(value / scale));
        expect(codes.filter((code) => !(Math.abs(code) <= 127))).toEqual([]);
        const { values, scales } = quantizeWeight(weight, 1, weight.length, 0, false, 'float16');
        expect([...scales]).toEqual([scale]);
        expect([...values]).toEqual(codes.map(unsigned));
        weight.forEach((value, i) => {
          expect(Math.abs((values[i] as number) * scale - value)).toBeLessThanOrEqual((scale / 2) * (1 + 2 ** -15));
        });
      }),
      { numRuns: 1000 },
    );
  });

  it('are no more than a step of float16 above those of float32', () => {
    fc.assert(
      fc.property(magnitude, (most) => {
        fc.pre(most > 0);
        const of = (type: 'float32' | 'float16'): number => weightScales(Float32Array.of(most), type)[0] as number;
        const pattern = toHalf(of('float16'));
        expect(of('float16')).toBeGreaterThanOrEqual(of('float32'));
        expect(fromHalf(pattern - 1)).toBeLessThan(of('float32'));
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    [0, 2 ** -14],
    [2 ** -149, 2 ** -24],
    [127, 1],
    [127.01, 1 + 2 ** -10],
    [127 * 2 ** -24, 2 ** -24],
  ])('of a channel whose largest weight is %d: %d', (most, scale) => {
    expect([...weightScales(Float32Array.of(most), 'float16')]).toEqual([scale]);
  });

  it.each(['int8', 'uint8'] as const)('of an activation of %s cover what those of float32 do', (dtype) => {
    const ranges = fc.tuple(magnitude, magnitude, fc.boolean(), fc.boolean());
    fc.assert(
      fc.property(ranges, ([a, b, left, right]) => {
        const ends = [left ? -a : a, right ? -b : b];
        const [low, high] = [Math.min(...ends), Math.max(...ends)] as [number, number];
        const wide = activationScale(dtype, low, high);
        const { scale, zeroPoint } = activationScale(dtype, low, high, 'float16');
        // Past FP16's end, what codes stand for is what counts.
        fc.pre(255 * wide.scale <= HALF_MAX / 2);
        expect(isHalf(scale)).toBe(true);
        expect(scale).toBeGreaterThanOrEqual(wide.scale);
        expect(fromHalf(toHalf(scale) - 1)).toBeLessThan(wide.scale);
        const [from, to] = dtype === 'int8' ? [-127, 127] : [0, 255];
        expect(zeroPoint >= from && zeroPoint <= to && Number.isInteger(zeroPoint)).toBe(true);
        const slack = (scale / 2) * (1 + 2 ** -14);
        expect((from - zeroPoint) * scale).toBeLessThanOrEqual(low + slack);
        expect((to - zeroPoint) * scale).toBeGreaterThanOrEqual(high - slack);
      }),
      { numRuns: 500 },
    );
  });
});

const range = fc.tuple(finiteFloat(), finiteFloat()).map(([a, b]) => ({ low: Math.min(a, b), high: Math.max(a, b) }));

describe.each(['int8', 'uint8'] as const)('activationScale %s', (dtype) => {
  const codes = dtype === 'int8' ? ([-127, 127] as const) : ([0, 255] as const);

  it('has a normal float32 above zero as its scale, and a zero point among the codes', () => {
    fc.assert(
      fc.property(range, ({ low, high }) => {
        const { scale, zeroPoint } = activationScale(dtype, low, high);
        expect(scale).toBe(Math.fround(scale));
        expect(scale).toBeGreaterThanOrEqual(2 ** -126);
        expect(scale).toBeLessThan(Number.POSITIVE_INFINITY);
        expect(Number.isInteger(zeroPoint)).toBe(true);
        expect(zeroPoint).toBeGreaterThanOrEqual(codes[0]);
        expect(zeroPoint).toBeLessThanOrEqual(codes[1]);
        if (dtype === 'int8') expect(zeroPoint).toBe(0);
      }),
    );
  });

  it('covers the range to half a step at either end', () => {
    fc.assert(
      fc.property(range, ({ low, high }) => {
        const { scale, zeroPoint } = activationScale(dtype, low, high);
        const slack = (scale / 2) * (1 + 2 ** -14);
        expect((codes[0] - zeroPoint) * scale).toBeLessThanOrEqual(low + slack);
        expect((codes[1] - zeroPoint) * scale).toBeGreaterThanOrEqual(high - slack);
      }),
    );
  });

  it('is no coarser than the range, widened to zero, needs', () => {
    fc.assert(
      fc.property(range, ({ low, high }) => {
        const span = dtype === 'int8' ? 2 * Math.max(-low, high) : Math.max(high, 0) - Math.min(low, 0);
        fc.pre(span > 255 * 2 ** -126);
        const { scale } = activationScale(dtype, low, high);
        expect(scale).toBeLessThanOrEqual((span / (codes[1] - codes[0])) * (1 + 2 ** -23));
      }),
    );
  });

  it.each([
    [0, 0],
    [-0, 0],
    [2 ** -149, 2 ** -149],
    [-(2 ** -149), 0],
    [0, floatOf(0x007fffff)],
  ])('is valid for the range [%d, %d]', (low, high) => {
    const { scale } = activationScale(dtype, low, high);
    expect(scale).toBeGreaterThanOrEqual(2 ** -126);
    expect(scale).toBeLessThanOrEqual(1);
  });
});

describe('a range that is no range', () => {
  it.each([
    [Number.NaN, 1],
    [0, Number.NaN],
    [Number.NEGATIVE_INFINITY, 0],
    [0, 1e39 * 1e300],
  ])('[%d, %d] has no scale', (low, high) => {
    for (const dtype of ['int8', 'uint8'] as const) expect(() => activationScale(dtype, low, high)).toThrow(RangeError);
  });
});

describe.each(['float32', 'float16'] as const)('quantized and back with a scale of %s', (type) => {
  it.each(['int8', 'uint8'] as const)(
    '%s, what is in the range is no more than half a step away, and finite',
    (dtype) => {
      const most = type === 'float16' ? 32_000 : floatOf(0x7f7fffff);
      const end = finiteFloat().map((value) => Math.sign(value) * Math.min(Math.abs(value), most));
      fc.assert(
        fc.property(end, end, fc.double({ min: 0, max: 1, noNaN: true }), (a, b, at) => {
          const [low, high] = [Math.min(a, b), Math.max(a, b)];
          const { scale, zeroPoint } = activationScale(dtype, low, high, type);
          expect(scale > 0 && Number.isFinite(scale)).toBe(true);
          const value = low * (1 - at) + high * at;
          const [least, largest] = dtype === 'int8' ? [-128, 127] : [0, 255];
          const code = Math.min(largest, Math.max(least, roundHalfEven(value / scale) + zeroPoint));
          const back = (code - zeroPoint) * scale;
          // The zero point is rounded too, which moves the ends of the range by half a step.
          const steps = dtype === 'int8' ? 0.5 : 1;
          expect(Math.abs(back - value)).toBeLessThanOrEqual(scale * steps * (1 + 2 ** -14));
          if (type === 'float16') expect(Number.isFinite(fromHalf(toHalf(back)))).toBe(true);
        }),
        { numRuns: 500 },
      );
    },
  );
});

describe('scales of float16 near its end', () => {
  it('stand for no code past it', () => {
    const end = fc.double({ min: -HALF_MAX, max: HALF_MAX, noNaN: true });
    fc.assert(
      fc.property(end, end, fc.constantFrom('int8' as const, 'uint8' as const), (a, b, dtype) => {
        const { scale, zeroPoint } = activationScale(dtype, Math.min(a, b), Math.max(a, b), 'float16');
        expect(isHalf(scale)).toBe(true);
        for (const code of dtype === 'int8' ? [-128, 127] : [0, 255]) {
          expect(Number.isFinite(fromHalf(toHalf((code - zeroPoint) * scale)))).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
    for (const dtype of ['int8', 'uint8'] as const) {
      for (const [low, high] of [
        [-HALF_MAX, HALF_MAX],
        [0, HALF_MAX],
        [-HALF_MAX, 0],
        [-1e9, 1e9],
      ] as const) {
        const { scale, zeroPoint } = activationScale(dtype, low, high, 'float16');
        const far = dtype === 'int8' ? 128 : Math.max(zeroPoint, 255 - zeroPoint);
        expect(scale * far).toBeLessThan(65520);
        expect(scale * far).toBeGreaterThan(0.99 * HALF_MAX);
      }
    }
  });
});

describe('activationScale', () => {
  it.each([
    ['int8', -127, 3, 1, 0],
    ['int8', -1, 254, 2, 0],
    ['uint8', 0, 255, 1, 0],
    ['uint8', -51, 204, 1, 51],
    ['uint8', 10, 510, 2, 0],
    ['uint8', -510, -10, 2, 255],
  ] as const)('%s over [%d, %d] has scale %d and zero point %d', (dtype, low, high, scale, zeroPoint) => {
    expect(activationScale(dtype, low, high)).toEqual({ dtype, scale, zeroPoint });
  });
});
