import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantizeInto, quantizeWeight, raiseMaxima, weightScales } from '../../../src/numerics/int8.js';
import { finiteFloat, floatOf } from '../helpers/floats.js';

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly weight: Float32Array;
}

/** Matrices up to some blocks that are transposed together, and of any finite values. */
const matrix = fc
  .record({
    rows: fc.integer({ min: 1, max: 70 }),
    columns: fc.integer({ min: 1, max: 70 }),
    values: fc.array(finiteFloat(), { minLength: 1, maxLength: 60 }),
  })
  .map(({ rows, columns, values }): Matrix => {
    const weight = Float32Array.from({ length: rows * columns }, (_, i) => values[(i * i) % values.length] as number);
    return { rows, columns, weight };
  });

const axes = fc.constantFrom<0 | 1>(0, 1);

/** First rows of parts that make up a matrix, in any split. */
const split = (rows: number): fc.Arbitrary<number[]> =>
  fc.subarray(Array.from({ length: rows - 1 }, (_, i) => i + 1)).map((inner) => [0, ...inner, rows]);

const splitMatrix = matrix.chain((made) => fc.record({ made: fc.constant(made), ends: split(made.rows) }));

function parts(
  { weight, columns }: Matrix,
  ends: readonly number[],
): { row: number; rows: number; part: Float32Array }[] {
  return ends.slice(1).map((end, i) => {
    const row = ends[i] as number;
    return { row, rows: end - row, part: weight.slice(row * columns, end * columns) };
  });
}

describe('a weight that is quantized in parts', () => {
  it('has the codes and scales of the whole, along either axis, transposed or not', () => {
    fc.assert(
      fc.property(splitMatrix, axes, fc.boolean(), ({ made, ends }, axis, transposed) => {
        const { rows, columns, weight } = made;
        const maxima = new Float32Array(axis === 0 ? rows : columns);
        for (const { row, rows: count, part } of parts(made, ends)) {
          raiseMaxima(part, count, columns, axis, axis === 0 ? maxima.subarray(row, row + count) : maxima);
        }
        const scales = weightScales(maxima);
        const codes = new Int8Array(weight.length);
        for (const { row, rows: count, part } of parts(made, ends)) {
          const own = axis === 0 ? scales.subarray(row, row + count) : scales;
          if (transposed) quantizeInto(part, count, columns, axis, own, true, codes, rows, row);
          else quantizeInto(part, count, columns, axis, own, false, codes.subarray(row * columns));
        }
        expect({ values: codes, scales }).toEqual(quantizeWeight(weight, rows, columns, axis, transposed));
      }),
    );
  });

  it('has the maxima of the whole in whatever order its parts come', () => {
    fc.assert(
      fc.property(splitMatrix, ({ made, ends }) => {
        const { rows, columns, weight } = made;
        const whole = new Float32Array(columns);
        raiseMaxima(weight, rows, columns, 1, whole);
        const backwards = new Float32Array(columns);
        for (const { rows: count, part } of parts(made, ends).reverse())
          raiseMaxima(part, count, columns, 1, backwards);
        expect(backwards).toEqual(whole);
      }),
    );
  });
});

describe('transposed codes', () => {
  it('of a part fill its own places among those of the whole', () => {
    fc.assert(
      fc.property(matrix, fc.nat(5), fc.nat(5), ({ rows, columns, weight }, before, after) => {
        const { values, scales } = quantizeWeight(weight, rows, columns, 0, true);
        const stride = before + rows + after;
        const codes = new Int8Array(stride * columns).fill(-128);
        quantizeInto(weight, rows, columns, 0, scales, true, codes, stride, before);
        expect(codes).toEqual(
          codes.map((_, i) => {
            const row = (i % stride) - before;
            return row >= 0 && row < rows ? (values[Math.floor(i / stride) * rows + row] as number) : -128;
          }),
        );
      }),
    );
  });

  it('are the transpose of the codes, with the same scales', () => {
    fc.assert(
      fc.property(matrix, axes, ({ rows, columns, weight }, axis) => {
        const straight = quantizeWeight(weight, rows, columns, axis);
        const { values, scales } = quantizeWeight(weight, rows, columns, axis, true);
        expect(scales).toEqual(straight.scales);
        expect(values).toEqual(
          values.map((_, i) => straight.values[(i % rows) * columns + Math.floor(i / rows)] as number),
        );
      }),
    );
  });
});

const LARGEST = floatOf(0x7f7fffff);

describe('quantized weights of any finite float32', () => {
  /** Holds every code against its value; a code that was too large would have wrapped around, far from the value. */
  function expectClose({ rows, columns, weight }: Matrix, axis: 0 | 1): void {
    const { values, scales } = quantizeWeight(weight, rows, columns, axis);
    let [worst, least, largest] = [0, 0, 0];
    weight.forEach((w, i) => {
      const scale = scales[axis === 0 ? Math.floor(i / columns) : i % columns] as number;
      const code = values[i] as number;
      worst = Math.max(worst, Math.abs(code * scale - w) / scale);
      least = Math.min(least, code);
      largest = Math.max(largest, code);
    });
    expect(worst).toBeLessThanOrEqual(0.5 * (1 + 1e-6));
    expect(least).toBeGreaterThanOrEqual(-127);
    expect(largest).toBeLessThanOrEqual(127);
  }

  it('stay in [-127, 127] and within half a step', () => {
    fc.assert(fc.property(matrix, axes, expectClose));
  });

  it.each([
    ['the largest float32', [LARGEST, -LARGEST, LARGEST / 2, 1]],
    ['3.4e38', [-3.4e38, 3.4e38, 3e38, -1e36]],
    ['the smallest denormal', [2 ** -149, -(2 ** -149), 0, -0]],
    ['denormals', [floatOf(0x007fffff), -floatOf(0x00400000), 2 ** -140, 2 ** -149]],
    ['the last maximum whose scale is a denormal', [127 * 2 ** -126 - 2 ** -142, 2 ** -126, -(2 ** -127), 2 ** -149]],
    ['the first maximum whose scale is normal', [127 * 2 ** -126, -(2 ** -126), 2 ** -127, 2 ** -149]],
  ])('stay so for %s', (_, values) => {
    expectClose({ rows: 1, columns: 4, weight: Float32Array.from(values) }, 0);
    expectClose({ rows: 4, columns: 1, weight: Float32Array.from(values) }, 1);
  });

  it('stay so for every exponent and for mantissas that a scale rounds', () => {
    const mantissas = [0, 1, 0x555555, 0x7fffff];
    const magnitudes = Array.from({ length: 255 }, (_, exponent) =>
      mantissas.map((mantissa) => floatOf((exponent << 23) | mantissa)),
    ).flat();
    const weight = Float32Array.from(magnitudes.flatMap((largest) => [largest, -largest / 2, largest / 127, -largest]));
    expectClose({ rows: magnitudes.length, columns: 4, weight }, 0);
  });
});

describe('weightScales', () => {
  it.each([
    [0, 2 ** -126],
    [127, 1],
    [2 ** -149, 2 ** -126],
    [127 * 2 ** -127, 2 ** -126],
    [127 * 2 ** -125, 2 ** -125],
    [LARGEST, Math.fround(LARGEST / 127)],
  ])('takes the maximum %d to %d', (maximum, scale) => {
    expect([...weightScales(Float32Array.of(maximum))]).toEqual([scale]);
  });

  it('leaves the maxima as they were', () => {
    const maxima = Float32Array.of(127, 0, 5);
    weightScales(maxima);
    expect([...maxima]).toEqual([127, 0, 5]);
  });
});

describe('raiseMaxima', () => {
  it('raises what is smaller and leaves what is larger', () => {
    const weight = Float32Array.of(1, -5, 2, -3, 4, -0.5);
    const byRow = Float32Array.of(4, 100);
    expect(raiseMaxima(weight, 2, 3, 0, byRow)).toBe(true);
    expect([...byRow]).toEqual([5, 100]);
    const byColumn = Float32Array.of(0, 4.5, 9);
    expect(raiseMaxima(weight, 2, 3, 1, byColumn)).toBe(true);
    expect([...byColumn]).toEqual([3, 5, 9]);
  });

  it('reads and raises parts of larger arrays', () => {
    const weight = Float32Array.of(99, -1, 2, 99).subarray(1, 3);
    const maxima = Float32Array.of(0, 0, 0, 7);
    expect(raiseMaxima(weight, 2, 1, 0, maxima.subarray(1, 3))).toBe(true);
    expect([...maxima]).toEqual([0, 1, 2, 7]);
  });

  it('says that finite values are finite', () => {
    fc.assert(
      fc.property(matrix, axes, ({ rows, columns, weight }, axis) => {
        expect(raiseMaxima(weight, rows, columns, axis, new Float32Array(axis === 0 ? rows : columns))).toBe(true);
      }),
    );
  });

  it('says that a NaN or an infinity is among them, wherever it stands', () => {
    const broken = fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
    fc.assert(
      fc.property(matrix, axes, broken, fc.nat(), ({ rows, columns, weight }, axis, value, at) => {
        const spoilt = weight.slice();
        spoilt[at % spoilt.length] = value;
        expect(raiseMaxima(spoilt, rows, columns, axis, new Float32Array(axis === 0 ? rows : columns))).toBe(false);
      }),
    );
  });
});
