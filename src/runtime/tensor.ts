import { float32ToHalf, halfToFloat32 } from '../numerics/half.js';

/** Element types wanq feeds to and takes from sessions, with the array each travels in. float16 travels as bit patterns. */
export interface HostArrays {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  int64: BigInt64Array;
  int32: Int32Array;
  int8: Int8Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}

export type HostType = keyof HostArrays;

/** A tensor outside the runtime: plain data that crosses process borders. */
export type HostTensor = {
  [T in HostType]: { readonly dtype: T; readonly dims: readonly number[]; readonly data: HostArrays[T] };
}[HostType];

export function float32Tensor(data: Float32Array, dims: readonly number[]): HostTensor {
  return { dtype: 'float32', dims, data };
}

/** @throws Error for a tensor that holds no floats */
export function toFloat32(tensor: HostTensor): Float32Array {
  switch (tensor.dtype) {
    case 'float32':
      return tensor.data;
    case 'float16':
      return halfToFloat32(tensor.data);
    case 'float64':
      return Float32Array.from(tensor.data);
    default:
      throw new Error(`expected floats, got ${tensor.dtype}`);
  }
}

/**
 * Brings float values to the type a graph input declares. Integers are truncated toward zero, as torch's `.to(int64)` does.
 * @throws Error for a type that cannot hold them
 */
export function fromFloat32(values: Float32Array, dims: readonly number[], dtype: string | null): HostTensor {
  switch (dtype) {
    case 'float32':
      return { dtype, dims, data: values };
    case 'float16':
      return { dtype, dims, data: float32ToHalf(values) };
    case 'float64':
      return { dtype, dims, data: Float64Array.from(values) };
    case 'int64':
      return { dtype, dims, data: BigInt64Array.from(values, (value) => BigInt(Math.trunc(value))) };
    case 'int32':
      return { dtype, dims, data: Int32Array.from(values, Math.trunc) };
    default:
      throw new Error(`cannot feed floats as ${dtype ?? 'an unknown type'}`);
  }
}
