import { byteSize, type DataTypeName } from './dtype.js';

/** Where the bytes of a tensor are. Little-endian, row-major, as ONNX's `raw_data`. */
export type TensorData =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'strings'; readonly strings: readonly Uint8Array[] }
  | { readonly kind: 'external'; readonly location: string; readonly offset: number; readonly length: number }
  /** What comes of another tensor when the model is saved, tile by tile. */
  | { readonly kind: 'derived'; readonly source: Tensor; readonly form: DerivedForm };

/**
 * How a tensor comes of a float tensor seen as the matrix [dims[0], all other dims]:
 * - `int8`, `int8-scales`: codes and scales of symmetric per-channel quantization. `axis` is the channel axis of the matrix; with
 *   `transposed`, the codes are laid out as its transpose. The matrix is multiplied with `factors` first. Scales of `float16` are rounded up
 *   to that type, so that no code leaves its range.
 * - `float16`: the nearest half-precision values.
 * - `float16-rounded`: the same values, kept as float32.
 */
export type DerivedForm =
  | {
      readonly as: 'int8' | 'int8-scales';
      readonly axis: 0 | 1;
      readonly transposed: boolean;
      /** Absent: float32. */
      readonly scale?: 'float32' | 'float16';
      readonly factors?: readonly MatrixFactor[];
    }
  | { readonly as: 'float16' | 'float16-rounded' };

/** What a matrix is multiplied with or divided by: one value for each row, for each column, or one for all. */
export interface MatrixFactor {
  readonly along: 'rows' | 'columns' | 'all';
  readonly values: Tensor;
  readonly divides: boolean;
}

/** A constant tensor. Immutable: a pass that changes one makes a new one. */
export class Tensor {
  readonly name: string;
  readonly dtype: DataTypeName;
  readonly dims: readonly number[];
  readonly data: TensorData;

  constructor(name: string, dtype: DataTypeName, dims: readonly number[], data: TensorData) {
    this.name = name;
    this.dtype = dtype;
    this.dims = dims;
    this.data = data;
  }

  get elements(): number {
    return this.dims.reduce((product, dim) => product * dim, 1);
  }

  /** Bytes of the raw data; 0 for strings. */
  get byteLength(): number {
    return byteSize(this.dtype, this.elements) ?? 0;
  }

  /** The same tensor under another name. */
  renamed(name: string): Tensor {
    return new Tensor(name, this.dtype, this.dims, this.data);
  }

  static fromBytes(name: string, dtype: DataTypeName, dims: readonly number[], bytes: Uint8Array): Tensor {
    return new Tensor(name, dtype, dims, { kind: 'bytes', bytes });
  }

  static float32(name: string, dims: readonly number[], values: ArrayLike<number>): Tensor {
    return Tensor.fromBytes(name, 'float32', dims, asBytes(Float32Array.from(values)));
  }

  static int64(name: string, dims: readonly number[], values: readonly number[]): Tensor {
    return Tensor.fromBytes(name, 'int64', dims, asBytes(BigInt64Array.from(values, BigInt)));
  }

  static float64(name: string, dims: readonly number[], values: readonly number[]): Tensor {
    return Tensor.fromBytes(name, 'float64', dims, asBytes(Float64Array.from(values)));
  }
}

/** Reads tensors wherever their bytes are. Comes with the model from `onnx/load`. */
export interface TensorSource {
  /** All bytes of a tensor; what is derived is computed. */
  read(tensor: Tensor): Promise<Uint8Array>;
  /** Fills `target` with the bytes from `start` on of a tensor that is not derived. */
  readInto(tensor: Tensor, start: number, target: Uint8Array): Promise<void>;
}

export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** The bytes of a typed array, without copying. wanq runs on little-endian machines only, as onnxruntime does. */
export function asBytes(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** @returns bytes at an offset that typed arrays accept: the same memory where aligned, else a copy. */
export function aligned(bytes: Uint8Array, alignment: number): Uint8Array {
  // Not slice, which of a Buffer is the same memory.
  return bytes.byteOffset % alignment === 0 ? bytes : new Uint8Array(bytes);
}
