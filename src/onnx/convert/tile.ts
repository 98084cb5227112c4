import { printable, WanqError } from '../../errors.js';
import type { DataTypeName } from '../../ir/dtype.js';
import { aligned, asBytes, type DerivedForm, type Tensor } from '../../ir/tensor.js';
import { bfloat16ToFloat32, float32ToHalf, halfToFloat32 } from '../../numerics/half.js';
import { fitsHalf, quantizeInto, quantizeWeight, raiseMaxima, weightScales } from '../../numerics/int8.js';

/** What is done to one tile: whole rows of a weight that is read as a matrix. */
export type TileStep =
  | { readonly do: 'maxima'; readonly factors?: TileFactors }
  | {
      readonly do: 'int8';
      readonly axis: 0 | 1;
      readonly scale?: 'float32' | 'float16' | undefined;
      readonly factors?: TileFactors;
      /** Absent: those of the tile itself, which is right where every row is a channel. */
      readonly scales?: Float32Array;
      /** Where codes go that are laid out as the transpose. */
      readonly transpose?: Transpose;
    }
  | { readonly do: 'float16' | 'float16-rounded' };

/** What the rows and the columns of a tile are multiplied with first. */
export interface TileFactors {
  readonly rows?: Float32Array;
  readonly columns?: Float32Array;
}

/** The transposed codes of a whole weight, and the part that a tile's rows fill. */
export interface Transpose {
  readonly codes: SharedArrayBuffer;
  /** Rows of the weight. */
  readonly rows: number;
  /** First row of the tile. */
  readonly first: number;
}

export interface TileTask {
  readonly step: TileStep;
  readonly dtype: DataTypeName;
  readonly rows: number;
  readonly columns: number;
}

export interface TileResult {
  /** Bytes of the output that were written. */
  readonly bytes: number;
  /** Of `maxima`: one for each column. */
  readonly maxima?: Float32Array;
  /** Of `int8` without scales. */
  readonly scales?: Float32Array;
  /** Whether every value can be stored: finite, and within half precision's range where that is asked for. */
  readonly valid: boolean;
}

/** Runs one step on one tile. @param output has room for as many bytes as the tile's float32 values; transposed codes go elsewhere */
export function runTile(
  { step, dtype, rows, columns }: TileTask,
  input: ArrayBufferLike,
  output: ArrayBufferLike,
): TileResult {
  const size = rows * columns;
  const values = floatsOf(dtype, input, size);
  if ('factors' in step && step.factors) multiply(values, rows, columns, step.factors);
  switch (step.do) {
    case 'maxima': {
      const maxima = new Float32Array(columns);
      return { bytes: 0, valid: raiseMaxima(values, rows, columns, 1, maxima), maxima };
    }
    case 'int8': {
      const { axis, transpose } = step;
      const maxima = new Float32Array(step.scales ? 0 : rows);
      const valid = step.scales !== undefined || raiseMaxima(values, rows, columns, 0, maxima);
      const scales = step.scales ?? weightScales(maxima, step.scale);
      const codes = transpose ? new Int8Array(transpose.codes) : new Int8Array(output, 0, size);
      quantizeInto(
        ...([values, rows, columns, axis, scales, transpose !== undefined, codes] as const),
        ...([transpose?.rows, transpose?.first] as const),
      );
      return { bytes: transpose ? 0 : size, valid, ...(step.scales ? {} : { scales }) };
    }
    case 'float16': {
      const halves = float32ToHalf(values, new Uint16Array(output, 0, size));
      return { bytes: 2 * size, valid: isFinite16(halves) };
    }
    case 'float16-rounded': {
      const halves = float32ToHalf(values);
      halfToFloat32(halves, new Float32Array(output, 0, size));
      return { bytes: 4 * size, valid: true };
    }
  }
}

/** In place. */
function multiply(values: Float32Array, rows: number, columns: number, factors: TileFactors): void {
  if (!factors.rows && !factors.columns) return;
  for (let row = 0, i = 0; row < rows; row++) {
    const factor = factors.rows?.[row] ?? 1;
    for (let column = 0; column < columns; column++, i++) {
      values[i] = (values[i] as number) * factor * (factors.columns?.[column] ?? 1);
    }
  }
}

/** The factors of a matrix along its rows and its columns, from the tensors that hold them. */
export async function readFactors(
  source: Tensor,
  form: DerivedForm,
  read: (tensor: Tensor) => Promise<Uint8Array>,
): Promise<TileFactors> {
  const { rows, columns } = matrixOf(source);
  const combined: { rows?: Float32Array; columns?: Float32Array } = {};
  for (const { along, values, divides } of ('factors' in form && form.factors) || []) {
    const side = along === 'rows' ? 'rows' : 'columns';
    combined[side] ??= new Float32Array(side === 'rows' ? rows : columns).fill(1);
    const floats = floatsOf(values.dtype, new Uint8Array(await read(values)).buffer, values.elements);
    const total = combined[side];
    total.forEach((value, i) => {
      const factor = floats[along === 'all' ? 0 : i] as number;
      total[i] = divides ? value / factor : value * factor;
    });
  }
  return combined;
}

/** A tensor that is derived of one in memory. @throws WanqError as {@link invalidWeight} and {@link refuseLargeScales} */
export function derive(source: Tensor, bytes: Uint8Array, form: DerivedForm, factors: TileFactors = {}): Uint8Array {
  const { rows, columns } = matrixOf(source);
  const { buffer, byteOffset, byteLength } = aligned(bytes, 8);
  const input = buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
  if (form.as === 'int8' || form.as === 'int8-scales') {
    const values = floatsOf(source.dtype, input, source.elements);
    multiply(values, rows, columns, factors);
    if (!values.every(Number.isFinite)) throw invalidWeight(source, form.as);
    const quantized = quantizeWeight(values, rows, columns, form.axis, form.transposed, form.scale);
    refuseLargeScales(source, quantized.scales, form.scale);
    return form.as === 'int8' ? asBytes(quantized.values) : scaleBytes(quantized.scales, form.scale);
  }
  const output = new ArrayBuffer(4 * source.elements);
  const result = runTile({ step: { do: form.as }, dtype: source.dtype, rows, columns }, input, output);
  if (!result.valid) throw invalidWeight(source, form.as);
  return new Uint8Array(output, 0, result.bytes);
}

/**
 * Scales of FP16 that codes may be multiplied with; past these a code stands for infinity, or leaves its range.
 * @throws WanqError MODEL_UNSUPPORTED naming the weight
 */
export function refuseLargeScales(
  { name }: Tensor,
  scales: Float32Array,
  type: 'float32' | 'float16' = 'float32',
): void {
  if (type === 'float32' || scales.every((scale) => fitsHalf(scale))) return;
  throw new WanqError('MODEL_UNSUPPORTED', `weight "${printable(name)}" is too large for scales in FP16`, {
    hint: 'leave this linear out with --keep, or leave out --float fp16',
  });
}

/** Scales as they are stored. */
export function scaleBytes(scales: Float32Array, type: 'float32' | 'float16' = 'float32'): Uint8Array {
  return asBytes(type === 'float16' ? float32ToHalf(scales) : scales);
}

/** How a tensor is read as a matrix: its first axis by all others. */
export function matrixOf({ dims, elements }: Tensor): { rows: number; columns: number } {
  const rows = dims[0] ?? 1;
  return { rows, columns: elements / Math.max(rows, 1) };
}

/** What is wrong with a weight that cannot be converted. */
export function invalidWeight({ name }: Tensor, form: DerivedForm['as']): WanqError {
  return form === 'float16'
    ? new WanqError('MODEL_UNSUPPORTED', `weight "${printable(name)}" does not fit into FP16 (or holds NaN)`, {
        hint: 'leave out --float fp16, or --vae fp16',
      })
    : new WanqError('MODEL_INVALID', `weight "${printable(name)}" holds NaN or infinity`, {
        hint: 'export the model again, or leave this linear out with --keep',
      });
}

function isFinite16(halves: Uint16Array): boolean {
  for (let i = 0; i < halves.length; i++) if (((halves[i] as number) & 0x7c00) === 0x7c00) return false;
  return true;
}

/** The values of a float tensor, in memory that the next call uses again. */
export function decodeFloats(dtype: DataTypeName, bytes: Uint8Array, size: number): Float32Array {
  const { buffer, byteOffset } = aligned(bytes, 8);
  return dtype === 'float32'
    ? new Float32Array(buffer, byteOffset, size)
    : floatsOf(dtype, buffer.slice(byteOffset), size);
}

let decoded = new Float32Array(0);

/** The first `size` values of a buffer; those of other types are decoded into memory that the next call uses again. */
function floatsOf(dtype: DataTypeName, input: ArrayBufferLike, size: number): Float32Array {
  if (dtype === 'float32') return new Float32Array(input, 0, size);
  if (decoded.length < size) decoded = new Float32Array(size);
  if (dtype === 'float64') {
    decoded.set(new Float64Array(input, 0, size));
    return decoded.subarray(0, size);
  }
  const words = new Uint16Array(input, 0, size);
  if (dtype === 'float16') return halfToFloat32(words, decoded.subarray(0, size));
  if (dtype === 'bfloat16') return bfloat16ToFloat32(words, decoded.subarray(0, size));
  throw new Error(`${dtype} is not a float type`);
}
