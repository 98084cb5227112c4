import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../../../src/errors.js';
import type { DataTypeName } from '../../../../src/ir/dtype.js';
import { asBytes, type DerivedForm, type MatrixFactor, Tensor } from '../../../../src/ir/tensor.js';
import { bfloat16ToFloat32, float32ToHalf, halfToFloat32 } from '../../../../src/numerics/half.js';
import { quantizeWeight, weightScales } from '../../../../src/numerics/int8.js';
import {
  decodeFloats,
  derive,
  matrixOf,
  readFactors,
  runTile,
  scaleBytes,
  type TileFactors,
  type TileResult,
  type TileStep,
} from '../../../../src/onnx/convert/tile.js';
import { read } from '../../../helpers/source.js';
import { expectRefusal } from '../../helpers/errors.js';

const ROWS = 3;
const COLUMNS = 4;
const VALUES = Float32Array.of(1, -2, 0.5, 3, 100, -0.25, 0, 7, -1 / 3, 2 ** -20, 60_000, -1);

/** A tile of a type, with what its values are. */
interface Stored {
  readonly dtype: DataTypeName;
  readonly words: Float32Array | Float64Array | Uint16Array;
  readonly values: Float32Array;
}

const bfloat16 = Uint16Array.from(new Uint32Array(VALUES.slice().buffer), (bits) => bits >>> 16);

const STORED: readonly Stored[] = [
  { dtype: 'float32', words: VALUES, values: VALUES },
  { dtype: 'float16', words: float32ToHalf(VALUES), values: halfToFloat32(float32ToHalf(VALUES)) },
  { dtype: 'bfloat16', words: bfloat16, values: bfloat16ToFloat32(bfloat16) },
  { dtype: 'float64', words: Float64Array.from(VALUES), values: VALUES },
];

/** Runs a step on a tile in buffers that are larger than it, as they are when a large tile went before. */
function run(
  step: TileStep,
  { dtype, words }: Pick<Stored, 'dtype' | 'words'>,
  rows = ROWS,
  columns = COLUMNS,
): TileResult & { output: ArrayBuffer } {
  const input = new ArrayBuffer(words.byteLength + 64);
  new Uint8Array(input).fill(0xff);
  new Uint8Array(input).set(asBytes(words));
  const output = new ArrayBuffer(4 * rows * columns + 64);
  return { ...runTile({ step, dtype, rows, columns }, input, output), output };
}

const bytesOf = ({ output, bytes }: { output: ArrayBuffer; bytes: number }): Uint8Array =>
  new Uint8Array(output, 0, bytes);

describe.each(STORED)('runTile on a tile of $dtype', (stored) => {
  const { values } = stored;

  it('finds the largest magnitude of each column', () => {
    const { maxima, valid, bytes } = run({ do: 'maxima' }, stored);
    const expected = Array.from({ length: COLUMNS }, (_, column) =>
      Math.max(...Array.from({ length: ROWS }, (__, row) => Math.abs(values[row * COLUMNS + column] as number))),
    );
    expect({ maxima: [...(maxima ?? [])], valid, bytes }).toEqual({ maxima: expected, valid: true, bytes: 0 });
  });

  it('quantizes rows by scales of their own', () => {
    const result = run({ do: 'int8', axis: 0 }, stored);
    const expected = quantizeWeight(values, ROWS, COLUMNS, 0);
    expect(result).toMatchObject({ valid: true, scales: expected.scales, bytes: VALUES.length });
    expect(new Int8Array(result.output, 0, VALUES.length)).toEqual(expected.values);
  });

  it('quantizes columns by given scales', () => {
    const { scales, values: codes } = quantizeWeight(values, ROWS, COLUMNS, 1);
    const result = run({ do: 'int8', axis: 1, scales }, stored);
    expect(result).toMatchObject({ valid: true, bytes: VALUES.length });
    expect(result.scales).toBeUndefined();
    expect(new Int8Array(result.output, 0, VALUES.length)).toEqual(codes);
  });

  it.each<0 | 1>([0, 1])('puts transposed codes where its rows stand in the whole weight, axis %i', (axis) => {
    const [before, after] = [2, 5];
    const rows = before + ROWS + after;
    const codes = new SharedArrayBuffer(rows * COLUMNS);
    const expected = quantizeWeight(values, ROWS, COLUMNS, axis, true);
    const scales = axis === 1 ? { scales: expected.scales } : {};
    const result = run({ do: 'int8', axis, ...scales, transpose: { codes, rows, first: before } }, stored);
    expect(result).toMatchObject({ valid: true, bytes: 0 });
    expect(result.scales).toEqual(axis === 0 ? expected.scales : undefined);
    for (let column = 0; column < COLUMNS; column++) {
      expect([...new Int8Array(codes, column * rows, rows)]).toEqual([
        ...[0, 0],
        ...expected.values.subarray(column * ROWS, (column + 1) * ROWS),
        ...[0, 0, 0, 0, 0],
      ]);
    }
    expect(new Uint8Array(result.output).every((byte) => byte === 0)).toBe(true);
  });

  it('gives the nearest float16 values', () => {
    const result = run({ do: 'float16' }, stored);
    expect(result).toMatchObject({ valid: true, bytes: 2 * VALUES.length });
    expect(new Uint16Array(result.output, 0, VALUES.length)).toEqual(float32ToHalf(values));
  });

  it('gives values rounded to float16 as float32', () => {
    const result = run({ do: 'float16-rounded' }, stored);
    expect(result).toMatchObject({ valid: true, bytes: 4 * VALUES.length });
    expect(new Float32Array(result.output, 0, VALUES.length)).toEqual(halfToFloat32(float32ToHalf(values)));
  });

  it.each<{ step: TileStep }>([
    { step: { do: 'maxima' } },
    { step: { do: 'int8', axis: 0 } },
    { step: { do: 'float16' } },
    { step: { do: 'float16-rounded' } },
  ])('writes nothing past its end: $step.do', ({ step }) => {
    const { output, bytes } = run(step, stored);
    expect(new Uint8Array(output, bytes).every((byte) => byte === 0)).toBe(true);
  });
});

describe('runTile on one tile after another', () => {
  it('takes nothing over from a larger tile of a narrow type', () => {
    const large = { dtype: 'float16', words: new Uint16Array(600).fill(0x7bff) } as const;
    run({ do: 'maxima' }, large, 20, 30);
    const small = STORED[1] as Stored;
    expect(run({ do: 'int8', axis: 0 }, small).scales).toEqual(quantizeWeight(small.values, ROWS, COLUMNS, 0).scales);
  });

  it('gives maxima and scales that a later tile does not change', () => {
    const tile = STORED[2] as Stored;
    const first = run({ do: 'maxima' }, tile).maxima?.slice();
    const kept = run({ do: 'maxima' }, tile).maxima;
    run({ do: 'maxima' }, { dtype: 'bfloat16', words: new Uint16Array(12) });
    expect(kept).toEqual(first);
  });
});

const HALF_NAN = 0x7e00;
const HALF_INFINITY = 0xfc00;
const BFLOAT_NAN = 0x7fc0;
const BFLOAT_INFINITY = 0x7f80;
const BFLOAT_ABOVE_HALF = 0x4780; // 65536

const one = (dtype: DataTypeName, word: number): Pick<Stored, 'dtype' | 'words'> => ({
  dtype,
  words: dtype === 'float32' ? Float32Array.of(0, word) : Uint16Array.of(0, word),
});

describe('runTile calls a tile invalid', () => {
  it.each([
    ['NaN', one('float32', Number.NaN)],
    ['infinity', one('float32', Number.NEGATIVE_INFINITY)],
    ['NaN in float16', one('float16', HALF_NAN)],
    ['infinity in float16', one('float16', HALF_INFINITY)],
    ['NaN in bfloat16', one('bfloat16', BFLOAT_NAN)],
    ['infinity in bfloat16', one('bfloat16', BFLOAT_INFINITY)],
  ])('that holds %s', (_, tile) => {
    expect(run({ do: 'maxima' }, tile, 1, 2).valid).toBe(false);
    const transpose = { codes: new SharedArrayBuffer(2), rows: 1, first: 0 };
    expect(run({ do: 'int8', axis: 0 }, tile, 1, 2).valid).toBe(false);
    expect(run({ do: 'int8', axis: 0, transpose }, tile, 1, 2).valid).toBe(false);
    expect(run({ do: 'float16' }, tile, 1, 2).valid).toBe(false);
  });

  it.each([
    [65_519.99, true],
    [65_520, false],
    [-65_520, false],
    [1e30, false],
  ])('that does not fit into float16: %d fits: %s', (value, fits) => {
    expect(run({ do: 'float16' }, one('float32', value), 1, 2).valid).toBe(fits);
    expect(run({ do: 'maxima' }, one('float32', value), 1, 2).valid).toBe(true);
  });

  it('of bfloat16 that does not fit into float16', () => {
    expect(run({ do: 'float16' }, one('bfloat16', BFLOAT_ABOVE_HALF), 1, 2).valid).toBe(false);
  });
});

/** What the elements of a tile are multiplied with, for rows, for columns, and both. */
const FACTORS: Record<string, TileFactors> = {
  rows: { rows: Float32Array.of(2, -0.3, 1e-3) },
  columns: { columns: Float32Array.of(1 / 3, 4, -1, 0.5) },
  both: { rows: Float32Array.of(2, -0.3, 1e-3), columns: Float32Array.of(1 / 3, 4, -1, 0.5) },
  neither: {},
};

describe.each(STORED)('runTile and derive with factors, on $dtype', (stored) => {
  const source = Tensor.fromBytes('weight', stored.dtype, [ROWS, COLUMNS], asBytes(stored.words));
  const cases = Object.keys(FACTORS).flatMap((along) =>
    (['float32', 'float16'] as const).map((scale): [string, 'float32' | 'float16'] => [along, scale]),
  );

  it.each(cases)('agree with the scaled values: by %s, scales of %s', (along, scale) => {
    const factors = FACTORS[along] as TileFactors;
    const scaled = stored.values.map((value, i) => {
      const [row, column] = [Math.floor(i / COLUMNS), i % COLUMNS];
      return value * (factors.rows?.[row] ?? 1) * (factors.columns?.[column] ?? 1);
    });
    const whole = asBytes(stored.words);
    for (const axis of [0, 1] as const) {
      const expected = quantizeWeight(scaled, ROWS, COLUMNS, axis, false, scale);
      const form = { axis, transposed: false, scale } as const;
      expect(derive(source, whole, { as: 'int8', ...form }, factors)).toEqual(asBytes(expected.values));
      const scales = scaleBytes(expected.scales, scale);
      expect(derive(source, whole, { as: 'int8-scales', ...form }, factors)).toEqual(scales);
      expect(scales.byteLength).toBe((scale === 'float16' ? 2 : 4) * expected.scales.length);
      const maxima = run({ do: 'maxima', factors }, stored).maxima as Float32Array;
      const known = axis === 1 ? { scales: weightScales(maxima, scale) } : {};
      const tile = run({ do: 'int8', axis, scale, factors, ...known }, stored);
      expect(new Int8Array(tile.output, 0, VALUES.length)).toEqual(expected.values);
      expect(known.scales ?? tile.scales).toEqual(expected.scales);
      const codes = new SharedArrayBuffer(VALUES.length);
      run({ do: 'int8', axis, scale, factors, ...known, transpose: { codes, rows: ROWS, first: 0 } }, stored);
      const turned = derive(source, whole, { as: 'int8', axis, transposed: true, scale }, factors);
      expect(new Uint8Array(codes).slice()).toEqual(turned);
      expect(asBytes(quantizeWeight(scaled, ROWS, COLUMNS, axis, true, scale).values)).toEqual(turned);
    }
    expect(asBytes(stored.words)).toEqual(whole);
  });

  it('refuse values that a factor makes infinite', () => {
    const factors = { rows: Float32Array.of(1, 1, 3e38) };
    expect(run({ do: 'maxima', factors }, stored).valid).toBe(false);
    expect(run({ do: 'int8', axis: 0, factors }, stored).valid).toBe(false);
    const form = { as: 'int8', axis: 0, transposed: false } as const;
    expectRefusal(() => derive(source, asBytes(stored.words), form, factors), 'MODEL_INVALID');
  });
});

describe('readFactors', () => {
  const source = Tensor.float32('weight', [2, 3], [1, 2, 3, 4, 5, 6]);
  const by = (along: MatrixFactor['along'], values: Tensor, divides = false): MatrixFactor => ({
    along,
    values,
    divides,
  });
  const floats = (...values: number[]): Tensor => Tensor.float32('f', [values.length], values);
  const of = (...factors: MatrixFactor[]): Promise<TileFactors> =>
    readFactors(source, { as: 'int8', axis: 0, transposed: false, factors }, read);

  it.each<[string, MatrixFactor[], TileFactors]>([
    ['none', [], {}],
    ['rows', [by('rows', floats(2, 3))], { rows: Float32Array.of(2, 3) }],
    ['columns', [by('columns', floats(2, 3, 4))], { columns: Float32Array.of(2, 3, 4) }],
    ['one for all', [by('all', floats(2))], { columns: Float32Array.of(2, 2, 2) }],
    ['one for all without axes', [by('all', Tensor.float32('f', [], [2]))], { columns: Float32Array.of(2, 2, 2) }],
    [
      'divisors',
      [by('rows', floats(2, 4), true), by('all', floats(8), true)],
      { rows: Float32Array.of(0.5, 0.25), columns: Float32Array.of(0.125, 0.125, 0.125) },
    ],
    [
      'all of them, several along each',
      [by('rows', floats(2, 4)), by('columns', floats(1, 2, 3)), by('all', floats(2)), by('rows', floats(8, 16), true)],
      { rows: Float32Array.of(0.25, 0.25), columns: Float32Array.of(2, 4, 6) },
    ],
  ])('combines %s', async (_, factors, expected) => {
    expect(await of(...factors)).toEqual(expected);
  });

  it.each<[DataTypeName, Uint8Array]>([
    ['float16', asBytes(float32ToHalf(Float32Array.of(0.5, -2)))],
    ['bfloat16', asBytes(Uint16Array.of(0x3f00, 0xc000))],
    ['float64', asBytes(Float64Array.of(0.5, -2))],
  ])('decodes %s', async (dtype, bytes) => {
    const factor = Tensor.fromBytes('f', dtype, [2], bytes);
    expect(await of(by('rows', factor))).toEqual({ rows: Float32Array.of(0.5, -2) });
  });

  it('reads factors that are a part of a larger Buffer', async () => {
    const file = Buffer.alloc(64);
    file.set(asBytes(Float32Array.of(0.5, -2)), 13);
    expect(await of(by('rows', Tensor.fromBytes('f', 'float32', [2], file.subarray(13, 21))))).toEqual({
      rows: Float32Array.of(0.5, -2),
    });
  });

  it('has none for other forms', async () => {
    expect(await readFactors(source, { as: 'float16' }, read)).toEqual({});
    expect(await readFactors(source, { as: 'int8', axis: 0, transposed: false }, read)).toEqual({});
  });
});

describe('derive', () => {
  const tensorOf = ({ dtype, words }: Pick<Stored, 'dtype' | 'words'>, dims: readonly number[]): Tensor =>
    Tensor.fromBytes('weight', dtype, dims, asBytes(words));

  it.each(STORED)('gives what a tile of the whole gives, of $dtype', (stored) => {
    const source = tensorOf(stored, [ROWS, COLUMNS]);
    const bytes = asBytes(stored.words);
    const byRow = run({ do: 'int8', axis: 0 }, stored);
    const scales = weightScales(run({ do: 'maxima' }, stored).maxima as Float32Array);
    const byColumn = run({ do: 'int8', axis: 1, scales }, stored);
    expect(derive(source, bytes, { as: 'int8', axis: 0, transposed: false })).toEqual(bytesOf(byRow));
    expect(derive(source, bytes, { as: 'int8', axis: 1, transposed: false })).toEqual(bytesOf(byColumn));
    for (const transposed of [false, true]) {
      expect(derive(source, bytes, { as: 'int8-scales', axis: 0, transposed })).toEqual(
        asBytes(byRow.scales as Float32Array),
      );
      expect(derive(source, bytes, { as: 'int8-scales', axis: 1, transposed })).toEqual(asBytes(scales));
    }
    for (const axis of [0, 1] as const) {
      const codes = new SharedArrayBuffer(VALUES.length);
      const given = axis === 1 ? { scales } : {};
      run({ do: 'int8', axis, ...given, transpose: { codes, rows: ROWS, first: 0 } }, stored);
      expect(derive(source, bytes, { as: 'int8', axis, transposed: true })).toEqual(new Uint8Array(codes).slice());
    }
    for (const as of ['float16', 'float16-rounded'] as const) {
      expect(derive(source, bytes, { as })).toEqual(bytesOf(run({ do: as }, stored)));
    }
  });

  it('reads bytes at any offset and leaves them as they are', () => {
    const forms: DerivedForm[] = [{ as: 'int8', axis: 1, transposed: true }, { as: 'float16' }];
    fc.assert(
      fc.property(fc.constantFrom(...STORED), fc.integer({ min: 0, max: 9 }), (stored, offset) => {
        const source = tensorOf(stored, [ROWS, COLUMNS]);
        const moved = new Uint8Array(stored.words.byteLength + 20);
        moved.set(asBytes(stored.words), offset);
        const before = moved.slice();
        for (const form of forms) {
          const view = moved.subarray(offset, offset + stored.words.byteLength);
          expect(derive(source, view, form)).toEqual(derive(source, asBytes(stored.words), form));
        }
        expect(moved).toEqual(before);
      }),
    );
  });

  it('takes a tensor of more axes as the matrix of its first by all others', () => {
    const stored = STORED[0] as Stored;
    const form: DerivedForm = { as: 'int8', axis: 0, transposed: false };
    const bytes = asBytes(stored.words);
    expect(derive(tensorOf(stored, [ROWS, 2, 2]), bytes, form)).toEqual(
      derive(tensorOf(stored, [ROWS, 4]), bytes, form),
    );
  });

  it.each<[string, Pick<Stored, 'dtype' | 'words'>, DerivedForm, ErrorCode]>([
    ['NaN in codes', one('float32', Number.NaN), { as: 'int8', axis: 0, transposed: false }, 'MODEL_INVALID'],
    ['infinity in codes', one('float16', HALF_INFINITY), { as: 'int8', axis: 1, transposed: true }, 'MODEL_INVALID'],
    ['NaN in scales', one('bfloat16', BFLOAT_NAN), { as: 'int8-scales', axis: 0, transposed: false }, 'MODEL_INVALID'],
    ['NaN in float16', one('float32', Number.NaN), { as: 'float16' }, 'MODEL_UNSUPPORTED'],
    ['what overflows float16', one('float32', 65_520), { as: 'float16' }, 'MODEL_UNSUPPORTED'],
    ['bfloat16 that overflows float16', one('bfloat16', BFLOAT_ABOVE_HALF), { as: 'float16' }, 'MODEL_UNSUPPORTED'],
  ])('refuses %s', (_, tile, form, code) => {
    expectRefusal(() => derive(tensorOf(tile, [1, 2]), asBytes(tile.words), form), code);
  });

  it.each(['int8', 'int8-scales'] as const)('refuses weights whose scales in FP16 make infinities: %s', (as) => {
    const made = (value: number, scale: 'float32' | 'float16') => {
      const form = { as, axis: 0, transposed: false, scale } as const;
      return derive(Tensor.float32('w', [1, 2], [value, 1]), asBytes(Float32Array.of(value, 1)), form);
    };
    for (const large of [65_504, 1e8, -3.4e38]) {
      expectRefusal(() => made(large, 'float16'), 'MODEL_UNSUPPORTED');
      expect(made(large, 'float32').length).toBeGreaterThan(0);
    }
    expect(made(65_468, 'float16').length).toBeGreaterThan(0);
  });

  it('names the weight it refuses, on one line', () => {
    const source = Tensor.float32('blocks.0\nffn', [1], [Number.NaN]);
    const call = (): Uint8Array => derive(source, asBytes(Float32Array.of(Number.NaN)), { as: 'float16' });
    expect(call).toThrow('weight "blocks.0 ffn" does not fit into FP16');
  });

  it('rounds what no float16 can hold to infinity where float32 is kept', () => {
    const source = Tensor.float32('w', [3], [1e30, -65_520, 65_519]);
    const bytes = derive(source, asBytes(Float32Array.of(1e30, -65_520, 65_519)), { as: 'float16-rounded' });
    expect([...new Float32Array(bytes.slice().buffer)]).toEqual([Infinity, -Infinity, 65_504]);
  });

  it('takes no other type', () => {
    const source = Tensor.int64('w', [1], [1]);
    expect(() => derive(source, new Uint8Array(8), { as: 'float16' })).toThrow('int64 is not a float type');
  });
});

describe('decodeFloats', () => {
  it.each(STORED)('reads $dtype at any place in memory', ({ dtype, words, values }) => {
    for (const offset of [0, 1, 2, 4, 8]) {
      const memory = new Uint8Array(words.byteLength + 16).fill(0xff);
      memory.set(asBytes(words), offset);
      const bytes = memory.subarray(offset, offset + words.byteLength);
      expect(decodeFloats(dtype, bytes, values.length)).toEqual(values);
      expect(decodeFloats(dtype, bytes, 3)).toEqual(values.subarray(0, 3));
    }
  });
});

describe('matrixOf', () => {
  it.each<[number[], number, number]>([
    [[], 1, 1],
    [[5], 5, 1],
    [[2, 3], 2, 3],
    [[6, 4, 1, 2, 2], 6, 16],
    [[0, 7], 0, 0],
    [[7, 0], 7, 0],
  ])('reads %j as %i x %i', (dims, rows, columns) => {
    const count = dims.reduce((a, b) => a * b, 1);
    expect(matrixOf(Tensor.float32('w', dims, new Float32Array(count)))).toEqual({ rows, columns });
  });
});
