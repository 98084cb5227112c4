import { open } from 'node:fs/promises';
import path from 'node:path';
import type { Model } from '../ir/graph.js';
import { type ReadTensor, Tensor } from '../ir/tensor.js';
import { writeFully } from '../util/files.js';
import { encodeModel } from './codec.js';

/** File name of the external data, as optimum writes it. */
export const DATA_SUFFIX = '_data';

/** Smaller tensors stay in the graph file, where shape inference can see them. */
const EXTERNAL_FROM_BYTES = 1024;

/** onnxruntime maps external tensors at page boundaries; small ones need only their own alignment. */
const PAGE = 4096;
const PAGED_FROM_BYTES = 64 * 1024;

/** Called with the bytes of external data written so far, and in all. */
export type SaveProgress = (done: number, total: number) => void;

export interface SavedModel {
  graphBytes: number;
  dataBytes: number;
}

/**
 * Writes `<folder>/model.onnx` and, for the weights, `model.onnx_data`. Weights pass through memory one tensor at a time; the data
 * file is written first and the graph, which points into it, last.
 *
 * The model itself is left as it was.
 */
export async function saveModel(
  model: Model,
  read: ReadTensor,
  folder: string,
  onProgress?: SaveProgress,
): Promise<SavedModel> {
  const file = path.join(folder, 'model.onnx');
  const location = `model.onnx${DATA_SUFFIX}`;
  const original = model.graph.initializers;
  const placed = new Map(original);
  const isLarge = (tensor: Tensor): boolean =>
    tensor.data.kind !== 'strings' && tensor.byteLength >= EXTERNAL_FROM_BYTES;
  const large = [...original.values()].filter(isLarge);
  const total = large.reduce((sum, tensor) => sum + tensor.byteLength, 0);

  let end = 0;
  if (large.length > 0) {
    const handle = await open(path.join(folder, location), 'wx');
    try {
      let done = 0;
      for (const tensor of large) {
        const offset = alignUp(end, tensor.byteLength >= PAGED_FROM_BYTES ? PAGE : 64);
        const bytes = await read(tensor);
        await writeFully(handle, bytes, offset);
        end = offset + bytes.byteLength;
        done += bytes.byteLength;
        onProgress?.(done, total);
        placed.set(
          tensor.name,
          new Tensor(tensor.name, tensor.dtype, tensor.dims, {
            kind: 'external',
            location,
            offset,
            length: bytes.byteLength,
          }),
        );
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  for (const tensor of original.values()) {
    if (placed.get(tensor.name) !== tensor || tensor.data.kind === 'strings' || tensor.data.kind === 'bytes') continue;
    placed.set(tensor.name, Tensor.fromBytes(tensor.name, tensor.dtype, tensor.dims, await read(tensor)));
  }

  const bytes = encodeWith(model, placed);
  const handle = await open(file, 'wx');
  try {
    await writeFully(handle, bytes, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { graphBytes: bytes.byteLength, dataBytes: end };
}

function encodeWith(model: Model, initializers: Map<string, Tensor>): Uint8Array {
  const original = model.graph.initializers;
  model.graph.initializers = initializers;
  try {
    return encodeModel(model);
  } finally {
    model.graph.initializers = original;
  }
}

function alignUp(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
