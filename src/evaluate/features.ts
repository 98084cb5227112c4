import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { loadModel } from '../onnx/load.js';
import { toSigned, type Video } from '../pipeline/vae.js';
import type { RuntimeHost, Session } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../runtime/tensor.js';
import { readSafetensors } from '../util/safetensors.js';
import type { FeatureStatistics } from './metrics/frechet.js';

/**
 * A video feature network and the statistics of a reference set under it: `model.onnx` (input `[N, 3, F, H, W]` in [-1, 1], output
 * `[N, dim]`) and `reference.safetensors` (`mean` `[dim]` and `covariance` `[dim, dim]` F64; metadata `count`).
 */
export class FeatureNetwork {
  readonly reference: FeatureStatistics;
  readonly #session: Session;
  readonly #input: { readonly name: string; readonly dtype: string | null; readonly dims: readonly unknown[] };
  readonly #output: string;

  private constructor(
    reference: FeatureStatistics,
    session: Session,
    input: { name: string; dtype: string | null; dims: readonly unknown[] },
    output: string,
  ) {
    this.reference = reference;
    this.#session = session;
    this.#input = input;
    this.#output = output;
  }

  get dim(): number {
    return this.reference.mean.length;
  }

  /** @throws WanqError FEATURES_INVALID, NOT_FOUND, RUNTIME_FAILED */
  static async open(folder: string, host: RuntimeHost, options: SessionOptions): Promise<FeatureNetwork> {
    const file = path.join(folder, 'model.onnx');
    const reference = await readReference(path.join(folder, 'reference.safetensors'));
    const loaded = await loadModel(file);
    await loaded.close();
    const [input] = loaded.model.graph.inputs;
    const [output] = loaded.model.graph.outputs;
    if (input?.dims?.length !== 5 || output === undefined) {
      throw new WanqError('FEATURES_INVALID', `${printable(file)} does not take videos [N, 3, F, H, W]`);
    }
    const session = await host.createSession({ path: file }, options);
    return new FeatureNetwork(
      reference,
      session,
      { name: input.name, dtype: input.dtype, dims: input.dims },
      output.name,
    );
  }

  /** @returns `[dim]` features of one video */
  async features(video: Video): Promise<Float32Array> {
    const dims = [1, 3, video.frames, video.height, video.width];
    const misfit = this.#input.dims.findIndex((dim, i) => typeof dim === 'number' && i > 0 && dim !== dims[i]);
    if (misfit !== -1) {
      throw new WanqError(
        'FEATURES_INVALID',
        `the feature network takes videos of ${this.#input.dims.slice(2).join(' x ')} (frames x height x width), not ${dims.slice(2).join(' x ')}`,
        { hint: 'evaluate at that size, or export the network for yours' },
      );
    }
    const { outputs } = await this.#session.run(
      { [this.#input.name]: fromFloat32(toSigned(video), dims, this.#input.dtype) },
      [this.#output],
    );
    const features = toFloat32(outputs[this.#output] as HostTensor);
    if (features.length !== this.dim) {
      throw new WanqError(
        'FEATURES_INVALID',
        `the feature network makes ${features.length} features, its reference has ${this.dim}`,
      );
    }
    return features;
  }
}

async function readReference(file: string): Promise<FeatureStatistics> {
  const { tensors, metadata } = await readSafetensors(file);
  const mean = tensors.get('mean')?.data;
  const covariance = tensors.get('covariance')?.data;
  const dim = mean?.length ?? 0;
  if (!(mean instanceof Float64Array) || !(covariance instanceof Float64Array) || covariance.length !== dim * dim) {
    throw new WanqError('FEATURES_INVALID', `${printable(file)} needs mean [d] and covariance [d, d] as F64`);
  }
  return {
    count: Number(metadata.count ?? 0),
    mean: [...mean],
    covariance: Array.from({ length: dim }, (_, i) => [...covariance.subarray(i * dim, (i + 1) * dim)]),
  };
}
