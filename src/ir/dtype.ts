/** Element types of ONNX tensors: name to number, as in `TensorProto.DataType`. */
export const DataType = {
  undefined: 0,
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  complex64: 14,
  complex128: 15,
  bfloat16: 16,
  float8e4m3fn: 17,
  float8e4m3fnuz: 18,
  float8e5m2: 19,
  float8e5m2fnuz: 20,
  uint4: 21,
  int4: 22,
  float4e2m1: 23,
} as const;

export type DataTypeName = keyof typeof DataType;

const NAMES = new Map<number, DataTypeName>(
  Object.entries(DataType).map(([name, number]) => [number, name as DataTypeName]),
);

const BITS: Partial<Record<DataTypeName, number>> = {
  float32: 32,
  uint8: 8,
  int8: 8,
  uint16: 16,
  int16: 16,
  int32: 32,
  int64: 64,
  bool: 8,
  float16: 16,
  float64: 64,
  uint32: 32,
  uint64: 64,
  complex64: 64,
  complex128: 128,
  bfloat16: 16,
  float8e4m3fn: 8,
  float8e4m3fnuz: 8,
  float8e5m2: 8,
  float8e5m2fnuz: 8,
  uint4: 4,
  int4: 4,
  float4e2m1: 4,
};

/** @returns the name of an ONNX type number, or undefined for a number this version of wanq does not know. */
export function dataTypeName(type: number): DataTypeName | undefined {
  return NAMES.get(type);
}

/** @returns bytes that `elements` of `dtype` take as raw data (sub-byte types are packed), or undefined for strings. */
export function byteSize(dtype: DataTypeName, elements: number): number | undefined {
  const bits = BITS[dtype];
  return bits === undefined ? undefined : Math.ceil((elements * bits) / 8);
}

/** Float types a weight may be stored in. */
export function isStorableFloat(dtype: DataTypeName): boolean {
  return isQuantizableFloat(dtype) || dtype === 'float64';
}

/** Float types a product may compute in and still be quantized. */
export function isQuantizableFloat(dtype: DataTypeName): dtype is 'float32' | 'float16' | 'bfloat16' {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16';
}

/** Floats that a checkpoint stores, by what safetensors calls them. */
export const STORED_FLOATS: Readonly<Record<string, DataTypeName>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
};
