import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import type { Value } from '../ir/graph.js';
import { loadRunnable } from '../onnx/load.js';
import { toSigned, type Video } from '../pipeline/vae.js';
import type { RuntimeHost, Session } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../runtime/tensor.js';
import { readSafetensors, type SafeTensor } from '../util/safetensors.js';
import type { FeatureStatistics } from './metrics/frechet.js';

/** Statistics of a reference set, and its features where the file holds them. */
export interface ReferenceSet extends FeatureStatistics {
  readonly features?: readonly (Float32Array | Float64Array)[];
}

/** The files of a feature network, read and checked before anything runs. */
export interface FeatureFiles {
  readonly file: string;
  readonly input: Value;
  readonly output: string;
  readonly reference: ReferenceSet;
}

/**
 * Reads a folder with a video feature network and the statistics of a reference set under it: `model.onnx` (input `[N, 3, F, H, W]` in
 * [-1, 1], output `[N, dim]`) and `reference.safetensors` (`mean` `[dim]` and `covariance` `[dim, dim]` F64; metadata `count`; and, for the
 * kernel distance, `features` `[count, dim]` F32 or F64).
 *
 * @param size of the videos it will see
 * @throws WanqError FEATURES_INVALID, NOT_FOUND, MODEL_INVALID, SAFETENSORS_INVALID
 */
export async function readFeatures(folder: string, size: Omit<Video, 'data'>): Promise<FeatureFiles> {
  const file = path.join(folder, 'model.onnx');
  const reference = await readReference(path.join(folder, 'reference.safetensors'));
  const { graph } = await loadRunnable(file);
  const [input] = graph.inputs;
  const [output] = graph.outputs;
  if (input?.dims?.length !== 5 || output === undefined) {
    throw new WanqError('FEATURES_INVALID', `${printable(file)} does not take videos [N, 3, F, H, W]`);
  }
  const wanted = [size.frames, size.height, size.width];
  const taken = input.dims.slice(2);
  if (taken.some((dim, i) => typeof dim === 'number' && dim !== wanted[i])) {
    throw new WanqError(
      'FEATURES_INVALID',
      `${printable(file)} takes videos of ${taken.join(' x ')} (frames x height x width), and these are ${wanted.join(' x ')}`,
      { hint: 'evaluate at that size, or export the network for yours' },
    );
  }
  return { file, input, output: output.name, reference };
}

/** A feature network, loaded. */
export class FeatureNetwork {
  readonly #files: FeatureFiles;
  readonly #session: Session;

  private constructor(files: FeatureFiles, session: Session) {
    this.#files = files;
    this.#session = session;
  }

  static async open(files: FeatureFiles, host: RuntimeHost, options: SessionOptions): Promise<FeatureNetwork> {
    return new FeatureNetwork(files, await host.createSession({ path: files.file }, options));
  }

  get reference(): ReferenceSet {
    return this.#files.reference;
  }

  get dim(): number {
    return this.reference.mean.length;
  }

  /** @returns `[dim]` features of one video */
  async features(video: Video): Promise<Float32Array> {
    const { input, output } = this.#files;
    const dims = [1, 3, video.frames, video.height, video.width];
    const feeds = { [input.name]: fromFloat32(toSigned(video), dims, input.dtype) };
    const { outputs } = await this.#session.run(feeds, [output]);
    const features = toFloat32(outputs[output] as HostTensor);
    if (features.length !== this.dim) {
      throw new WanqError(
        'FEATURES_INVALID',
        `the feature network makes ${features.length} features, its reference has ${this.dim}`,
      );
    }
    return features;
  }
}

async function readReference(file: string): Promise<ReferenceSet> {
  const { tensors, metadata } = await readSafetensors(file);
  const mean = tensors.get('mean')?.data;
  const covariance = tensors.get('covariance')?.data;
  const dim = mean?.length ?? 0;
  const whole = dim > 0 && mean instanceof Float64Array && covariance instanceof Float64Array;
  if (!whole || covariance.length !== dim * dim) {
    throw new WanqError('FEATURES_INVALID', `${printable(file)} needs mean [d] and covariance [d, d] as F64`);
  }
  const count = Number(metadata.count ?? 0);
  if (!Number.isSafeInteger(count) || count < 0) {
    throw new WanqError('FEATURES_INVALID', `${printable(file)} is of ${printable(`${metadata.count}`, 20)} videos`, {
      hint: 'its metadata `count` is a whole number',
    });
  }
  const features = tensors.get('features');
  const rows = features && featureRows(features, dim, file);
  // A distance of what is no number would be none either, hours later.
  if (
    ![mean, covariance, ...(rows ?? [])].every((values: Float32Array | Float64Array) => values.every(Number.isFinite))
  )
    throw new WanqError('FEATURES_INVALID', `${printable(file)} has NaN or infinity in it`, { hint: 'make it again' });
  return { count, mean, covariance, ...(rows ? { features: rows } : {}) };
}

function featureRows({ data, shape }: SafeTensor, dim: number, file: string): (Float32Array | Float64Array)[] {
  const [count = 0] = shape;
  if (
    !(data instanceof Float32Array || data instanceof Float64Array) ||
    shape.length !== 2 ||
    shape[1] !== dim ||
    count < 2
  ) {
    throw new WanqError(
      'FEATURES_INVALID',
      `${printable(file)} needs its features as [n, ${dim}] F32 or F64, n at least 2`,
    );
  }
  return Array.from({ length: count }, (_, i) => data.subarray(i * dim, (i + 1) * dim));
}
