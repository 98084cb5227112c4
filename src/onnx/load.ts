import { createHash } from 'node:crypto';
import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';
import { Tensor, type TensorSource } from '../ir/tensor.js';
import { MAX_MODEL_BYTES } from '../limits.js';
import { readBounded } from '../util/files.js';
import { decodeModel, encodeModel } from './codec.js';
import { derive, readFactors } from './convert/tile.js';
import { ExternalData } from './external-data.js';
import { refuseGarbage } from './garbage.js';
import { encodeRelocated } from './relocate.js';
import { tensorsOf } from './tensors.js';

/** An encoded graph, and the folder that its external data lies in. */
export interface EncodedModel {
  readonly bytes: Uint8Array;
  readonly folder: string;
}

/** A model with the means to read its weights. Weights in external files are not read until asked for. */
export interface LoadedModel extends TensorSource {
  readonly model: Model;
  /** Path of the `.onnx` file. */
  readonly path: string;
  /** The `.onnx` file as it is on disk (without external data). */
  readonly bytes: Uint8Array;
  /** Bytes of an external data file. @throws WanqError EXTERNAL_DATA_INVALID */
  dataSize(location: string): Promise<number>;
  /** Makes a further file readable as external data. @returns the location of it. @throws WanqError NOT_FOUND, NOT_READABLE */
  mount(file: string): Promise<string>;
  /** Whether a tensor lies in such a further file. */
  isMounted(tensor: Tensor): boolean;
  /**
   * A graph of this model's tensors, its own or one made of it, for onnxruntime to take from memory.
   * @throws WanqError EXTERNAL_DATA_INVALID
   */
  encoded(model: Model): Promise<EncodedModel>;
  close(): Promise<void>;
}

/**
 * Reads a model for its graph alone; its weights cannot be read through it, and its data files need not be there.
 * @throws WanqError NOT_FOUND, NOT_READABLE; MODEL_INVALID where the file is no ONNX model; EXTERNAL_DATA_INVALID
 */
export async function loadGraph(file: string): Promise<Model> {
  return decodeFile(file, await readModel(file));
}

/**
 * As {@link loadGraph}, with every data file of the model checked as wanq checks what it reads itself: onnxruntime opens them by rules of its own, which
 * let other things pass. Call this before it gets the path of a file that is not wanq's own.
 *
 * @throws WanqError as {@link loadModel}
 */
export async function loadRunnable(file: string): Promise<Model> {
  const model = await loadGraph(file);
  const external = new ExternalData(file);
  try {
    await checkData(file, model, external, false);
  } finally {
    await external.close();
  }
  return model;
}

async function checkData(file: string, model: Model, external: ExternalData, missing: boolean): Promise<void> {
  await external.check(tensorsOf(model), { missing }).catch((error: unknown) => {
    throw inFile(file, error);
  });
}

async function readModel(file: string): Promise<Uint8Array> {
  await refuseGarbage(file);
  return readBounded(file, MAX_MODEL_BYTES);
}

function decodeFile(file: string, bytes: Uint8Array): Model {
  try {
    return decodeModel(bytes);
  } catch (error) {
    throw inFile(file, error);
  }
}

function inFile(file: string, error: unknown): unknown {
  if (!(error instanceof WanqError)) return error;
  return new WanqError(error.code, `${printable(file)}: ${error.message}`, {
    cause: error,
    hint: error.hint ?? 'export the model again, or check that the download is complete',
  });
}

/**
 * Reads a model, and checks where its weights lie; files of them may be missing until they are read.
 * @throws WanqError NOT_FOUND, NOT_READABLE; MODEL_INVALID where the file is no ONNX model; EXTERNAL_DATA_INVALID
 */
export async function loadModel(file: string): Promise<LoadedModel> {
  const bytes = await readModel(file);
  const model = decodeFile(file, bytes);
  const external = new ExternalData(file);
  try {
    await checkData(file, model, external, true);
  } catch (error) {
    await external.close();
    throw error;
  }
  const read = async (tensor: Tensor): Promise<Uint8Array> => {
    const { data } = tensor;
    switch (data.kind) {
      case 'bytes':
        return data.bytes;
      case 'external':
        return external.read(tensor);
      case 'derived':
        return derive(data.source, await read(data.source), data.form, await readFactors(data.source, data.form, read));
      case 'strings':
        throw new Error(`tensor ${tensor.name} holds strings`);
    }
  };
  return {
    model,
    path: file,
    bytes,
    read,
    readInto: async (tensor, start, target) => {
      const { data } = tensor;
      if (data.kind === 'external') await external.readInto(tensor, start, target);
      else target.set((await read(tensor)).subarray(start, start + target.byteLength));
    },
    dataSize: (location) => external.size(location),
    mount: (mounted) => external.mount(mounted),
    isMounted: ({ data }) => data.kind === 'external' && external.isMounted(data.location),
    encoded: async (made) => {
      // onnxruntime would follow the links of a file's path, and refuses them beside a graph in memory.
      const blobs = await external.blobs(locationsOf(made));
      if (!blobs) return { bytes: encodeModel(made), folder: path.dirname(path.resolve(file)) };
      return { bytes: encodeRelocated(made, blobs.names), folder: blobs.folder };
    },
    close: () => external.close(),
  };
}

function locationsOf(model: Model): Set<string> {
  const locations = new Set<string>();
  for (const { data } of tensorsOf(model)) if (data.kind === 'external') locations.add(data.location);
  return locations;
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
