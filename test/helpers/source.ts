import type { Tensor, TensorSource } from '../../src/ir/tensor.js';
import { derive, readFactors } from '../../src/onnx/convert/tile.js';

/** Reads tensors that are in memory or come of one that is. */
export async function read({ name, data }: Tensor): Promise<Uint8Array> {
  if (data.kind === 'bytes') return data.bytes;
  if (data.kind === 'derived') {
    const { source, form } = data;
    return derive(source, await read(source), form, await readFactors(source, form, read));
  }
  throw new Error(`${name} is ${data.kind}`);
}

/** Tensors that are in memory, as saving reads them. */
export const memory: TensorSource = {
  read,
  readInto: async (tensor, start, target) => {
    target.set((await read(tensor)).subarray(start, start + target.byteLength));
  },
};
