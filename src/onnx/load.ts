import { createHash } from 'node:crypto';
import path from 'node:path';
import { WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';
import { type ReadTensor, Tensor } from '../ir/tensor.js';
import { MAX_MODEL_BYTES } from '../limits.js';
import { readBounded } from '../util/files.js';
import { decodeModel } from './codec.js';
import { ExternalData } from './external-data.js';

/** A model with the means to read its weights. Weights in external files are not read until asked for. */
export interface LoadedModel {
  readonly model: Model;
  /** Path of the `.onnx` file. */
  readonly path: string;
  /** The `.onnx` file as it is on disk (without external data). */
  readonly bytes: Uint8Array;
  readonly read: ReadTensor;
  close(): Promise<void>;
}

/**
 * Reads a model for its graph alone; its weights cannot be read through it.
 * @throws WanqError as {@link loadModel}
 */
export async function loadGraph(file: string): Promise<Model> {
  return decodeFile(file, await readBounded(file, MAX_MODEL_BYTES));
}

function decodeFile(file: string, bytes: Uint8Array): Model {
  try {
    return decodeModel(bytes);
  } catch (error) {
    if (!(error instanceof WanqError)) throw error;
    throw new WanqError(error.code, `${file}: ${error.message}`, {
      cause: error,
      hint: error.hint ?? 'export the model again, or check that the download is complete',
    });
  }
}

/**
 * @throws WanqError NOT_FOUND, NOT_READABLE; MODEL_INVALID where the file is no ONNX model
 */
export async function loadModel(file: string): Promise<LoadedModel> {
  const bytes = await readBounded(file, MAX_MODEL_BYTES);
  const model = decodeFile(file, bytes);
  const external = new ExternalData(file);
  return {
    model,
    path: file,
    bytes,
    read: (tensor) => {
      switch (tensor.data.kind) {
        case 'bytes':
          return Promise.resolve(tensor.data.bytes);
        case 'external':
          return external.read(tensor);
        case 'lazy':
          return tensor.data.produce();
        case 'strings':
          return Promise.reject(new Error(`tensor ${tensor.name} holds strings`));
      }
    },
    close: () => external.close(),
  };
}

/** Bytes hashed at either end of every external tensor: enough to tell two checkpoints apart without reading 20 GB. */
const SAMPLE = 4096;

/** SHA-256 of the graph file and of both ends of every external tensor: which model a calibration belongs to. */
export async function fingerprint(loaded: LoadedModel): Promise<string> {
  const hash = createHash('sha256').update(loaded.bytes);
  const external = new ExternalData(loaded.path);
  try {
    for (const tensor of loaded.model.graph.initializers.values()) {
      if (tensor.data.kind !== 'external') continue;
      const { offset, length } = tensor.data;
      const head = Math.min(SAMPLE, length);
      for (const start of new Set([offset, offset + length - head])) {
        const ends = new Tensor(tensor.name, 'uint8', [head], { ...tensor.data, offset: start, length: head });
        hash.update(await external.read(ends));
      }
    }
  } finally {
    await external.close();
  }
  return hash.digest('hex');
}

/** Folder that external data locations of a model are relative to. */
export function dataFolder(modelPath: string): string {
  return path.dirname(path.resolve(modelPath));
}
