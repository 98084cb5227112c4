import ndarray from 'ndarray';
import type { Linear } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import { aligned, asBytes, type ReadTensor, Tensor } from '../ir/tensor.js';
import { bfloat16ToFloat32, halfToFloat32 } from '../numerics/half.js';
import { type QuantizedWeight, quantizeWeight } from '../numerics/int8.js';

/**
 * The INT8 form of a linear's weight as two lazy tensors: values, laid out as the node reads them, and one scale for every output
 * channel. The weight is read and converted once, when the first of the two is asked for; only the scales stay in memory.
 */
export function storedWeight(
  linear: Linear,
  read: ReadTensor,
  valuesName: string,
  scalesName: string,
): { values: Tensor; scales: Tensor } {
  const { weight, transposed, channelAxis } = linear;
  const dims = transposed ? weight.dims.toReversed() : weight.dims;
  let scales: Float32Array | undefined;
  const convert = async (): Promise<QuantizedWeight> => {
    const stored = asFloat32(weight, await read(weight));
    if (!stored.every(Number.isFinite)) {
      throw new WanqError(
        'MODEL_INVALID',
        `weight "${printable(weight.name)}" of ${linear.role} holds NaN or infinity`,
        {
          hint: 'export the model again, or leave this linear out with --keep',
        },
      );
    }
    const rows = dims[0] as number;
    const columns = stored.length / rows;
    const quantized = quantizeWeight(
      transposed ? transpose(stored, columns, rows) : stored,
      rows,
      columns,
      channelAxis,
    );
    scales = quantized.scales;
    return quantized;
  };
  return {
    values: new Tensor(valuesName, 'int8', dims, {
      kind: 'lazy',
      byteLength: weight.elements,
      produce: async () => asBytes((await convert()).values),
    }),
    scales: new Tensor(scalesName, 'float32', [linear.outFeatures], {
      kind: 'lazy',
      byteLength: 4 * linear.outFeatures,
      produce: async () => asBytes(scales ?? (await convert()).scales),
    }),
  };
}

/** @param values `[rows, columns]`; @returns `[columns, rows]` */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const source = ndarray(values, [rows, columns]);
  const result = ndarray(new Float32Array(values.length), [columns, rows]);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) result.set(column, row, source.get(row, column));
  }
  return result.data;
}

/** @returns the values of a float32, float16 or bfloat16 tensor as float32 */
export function asFloat32(tensor: Tensor, bytes: Uint8Array): Float32Array {
  const { buffer, byteOffset, byteLength } = aligned(bytes, 4);
  if (tensor.dtype === 'float32') return new Float32Array(buffer, byteOffset, byteLength / 4);
  const words = new Uint16Array(buffer, byteOffset, byteLength / 2);
  if (tensor.dtype === 'float16') return halfToFloat32(words);
  if (tensor.dtype === 'bfloat16') return bfloat16ToFloat32(words);
  throw new Error(`tensor ${tensor.name} is ${tensor.dtype}, not a float type`);
}
