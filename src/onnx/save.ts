import { open } from 'node:fs/promises';
import path from 'node:path';
import type { Model } from '../ir/graph.js';
import { Tensor, type TensorSource } from '../ir/tensor.js';
import { writeFully } from '../util/files.js';
import { encodeModel } from './codec.js';
import { type Job, planJobs } from './convert/jobs.js';
import { streamWeights } from './convert/stream.js';

/** File name of the external data, as optimum writes it. */
export const DATA_SUFFIX = '_data';

/** Smaller tensors stay in the graph file, where shape inference can see them. */
const EXTERNAL_FROM_BYTES = 1024;

/** Called with the bytes of weights read so far, and in all. */
export type SaveProgress = (done: number, total: number) => void;

export interface SavedModel {
  graphBytes: number;
  dataBytes: number;
}

/**
 * Writes `<folder>/model.onnx` and, for the weights, `model.onnx_data`. Weights pass through memory in tiles; the data file is written first
 * and the graph, which points into it, last. Both are on the disk when this returns.
 *
 * The model itself is left as it was.
 *
 * @throws WanqError of {@link streamWeights}
 */
export async function saveModel(
  model: Model,
  source: TensorSource,
  folder: string,
  onProgress?: SaveProgress,
): Promise<SavedModel> {
  const location = `model.onnx${DATA_SUFFIX}`;
  const original = [...model.graph.initializers.values()];
  const { jobs, dataBytes } = planJobs(original.filter(isLarge));
  if (jobs.length > 0) await writeData(path.join(folder, location), jobs, source, onProgress);

  const offsets = new Map<Tensor, number>();
  for (const { target, scales } of jobs) {
    for (const placed of scales ? [target, scales] : [target]) offsets.set(placed.tensor, placed.offset);
  }
  const written = await Promise.all(
    original.map(async (tensor) => {
      const { name, dtype, dims, byteLength, data } = tensor;
      const offset = offsets.get(tensor);
      if (offset !== undefined) {
        return new Tensor(name, dtype, dims, { kind: 'external', location, offset, length: byteLength });
      }
      const keeps = data.kind === 'strings' || data.kind === 'bytes';
      return keeps ? tensor : Tensor.fromBytes(name, dtype, dims, await source.read(tensor));
    }),
  );
  const bytes = encodeWith(model, new Map(written.map((tensor) => [tensor.name, tensor])));
  const handle = await open(path.join(folder, 'model.onnx'), 'wx');
  try {
    await writeFully(handle, bytes, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { graphBytes: bytes.byteLength, dataBytes };
}

/** The scales of large codes go with them, however few they are: they come of the same reading. */
function isLarge(tensor: Tensor): boolean {
  const { data, byteLength } = tensor;
  if (data.kind === 'strings') return false;
  const judged = data.kind === 'derived' && data.form.as === 'int8-scales' ? data.source.elements : byteLength;
  return judged >= EXTERNAL_FROM_BYTES;
}

async function writeData(
  file: string,
  jobs: readonly Job[],
  source: TensorSource,
  onProgress: SaveProgress | undefined,
): Promise<void> {
  const total = jobs.reduce((sum, job) => sum + job.source.byteLength, 0);
  const handle = await open(file, 'wx');
  try {
    let done = 0;
    await streamWeights(jobs, source, handle, (bytes) => {
      done += bytes;
      onProgress?.(done, total);
    });
    await handle.sync();
  } finally {
    await handle.close();
  }
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
