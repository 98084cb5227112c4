import ndarray from 'ndarray';
import { WanqError } from '../errors.js';
import { loadRunnable } from '../onnx/load.js';
import type { RuntimeHost, Session } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../runtime/tensor.js';
import { type LatentShape, latentDims } from './geometry.js';
import type { PipelineFolder, VaeConfig } from './layout.js';

/** A video: `data` is `[frames, height, width, 3]`, 8-bit RGB. */
export interface Video {
  readonly data: Uint8Array;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** One half of the autoencoder, loaded. */
interface VaeHalf {
  readonly session: Session;
  readonly input: string;
  readonly dtype: string | null;
  readonly output: string;
  readonly config: VaeConfig;
}

async function openHalf(
  component: 'vae_decoder' | 'vae_encoder',
  need: string,
  folder: PipelineFolder,
  host: RuntimeHost,
  options: SessionOptions,
): Promise<VaeHalf> {
  const file = await folder.require(component, need);
  const config = await folder.vaeConfig();
  const { graph } = await loadRunnable(file);
  const [input] = graph.inputs;
  const [output] = graph.outputs;
  if (!input || !output) throw new WanqError('MODEL_INVALID', `${file} has no input or no output`);
  const session = await host.createSession({ path: file }, options);
  return { session, input: input.name, dtype: input.dtype, output: output.name, config };
}

async function runHalf(
  { session, input, dtype, output }: VaeHalf,
  data: Float32Array,
  dims: number[],
): Promise<HostTensor> {
  const { outputs } = await session.run({ [input]: fromFloat32(data, dims, dtype) }, [output]);
  return outputs[output] as HostTensor;
}

/** Latents to video: AutoencoderKLWan's decoder. */
export class VaeDecoder {
  readonly #half: VaeHalf;

  private constructor(half: VaeHalf) {
    this.#half = half;
  }

  /** @throws WanqError PIPELINE_INVALID, MODEL_INVALID, RUNTIME_FAILED */
  static async open(folder: PipelineFolder, host: RuntimeHost, options: SessionOptions): Promise<VaeDecoder> {
    return new VaeDecoder(await openHalf('vae_decoder', 'decoding latents', folder, host, options));
  }

  /** Execution provider that runs it. */
  get provider(): string {
    return this.#half.session.info.provider;
  }

  /** @param latents normalised, as the transformer sees them: `[channels, frames, height, width]` */
  async decode(latents: Float32Array, shape: LatentShape): Promise<Video> {
    const scaled = rescale(latents, this.#half.config, (x, mean, std) => x * std + mean);
    return toVideo(await runHalf(this.#half, scaled, latentDims(shape)));
  }
}

/** Video to latents: the mean of AutoencoderKLWan's encoder. */
export class VaeEncoder {
  readonly #half: VaeHalf;

  private constructor(half: VaeHalf) {
    this.#half = half;
  }

  /** @throws WanqError PIPELINE_INVALID, MODEL_INVALID, RUNTIME_FAILED */
  static async open(folder: PipelineFolder, host: RuntimeHost, options: SessionOptions): Promise<VaeEncoder> {
    return new VaeEncoder(await openHalf('vae_encoder', 'measuring on your own clips', folder, host, options));
  }

  /** @returns normalised latents, `[channels, frames, height, width]` */
  async encode(video: Video): Promise<Float32Array> {
    const dims = [1, 3, video.frames, video.height, video.width];
    const latents = toFloat32(await runHalf(this.#half, toSigned(video), dims));
    return rescale(latents, this.#half.config, (x, mean, std) => (x - mean) / std);
  }
}

/** Applies the configuration's per-channel mean and standard deviation to `[channels, ...]` values. */
function rescale(
  values: Float32Array,
  { latents_mean, latents_std }: VaeConfig,
  apply: (x: number, mean: number, std: number) => number,
): Float32Array {
  const channels = latents_mean.length;
  if (latents_std.length !== channels || values.length % channels !== 0) {
    throw new WanqError('PIPELINE_INVALID', `latents_mean has ${channels} channels, which do not fit the latents`);
  }
  const plane = values.length / channels;
  const scaled = new Float32Array(values.length);
  for (let channel = 0, i = 0; channel < channels; channel++) {
    const [mean, std] = [latents_mean[channel] as number, latents_std[channel] as number];
    for (const end = i + plane; i < end; i++) scaled[i] = apply(values[i] as number, mean, std);
  }
  return scaled;
}

/** `[1, 3, F, H, W]` in [-1, 1] to 8-bit frames, as diffusers' video processor does: clamp((x + 1) / 2) x 255, rounded. */
export function toVideo(tensor: HostTensor): Video {
  const [, channels, frames, height, width] = tensor.dims as [number, number, number, number, number];
  if (tensor.dims.length !== 5 || channels !== 3) {
    throw new WanqError('MODEL_UNSUPPORTED', `the VAE decoder made a tensor of shape [${tensor.dims.join(', ')}]`);
  }
  const source = ndarray(toFloat32(tensor), [3, frames, height, width]).transpose(1, 2, 3, 0);
  const pixels = inOrder(source);
  const data = new Uint8Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) {
    const value = Math.round(((pixels[i] as number) / 2 + 0.5) * 255);
    data[i] = value < 0 ? 0 : value > 255 ? 255 : value;
  }
  return { data, frames, height, width };
}

/** 8-bit frames to `[3, F, H, W]` in [-1, 1]: what the VAE encoder and video feature networks take. */
export function toSigned({ data, frames, height, width }: Video): Float32Array {
  const source = ndarray(data, [frames, height, width, 3]).transpose(3, 0, 1, 2);
  const pixels = inOrder(source);
  for (let i = 0; i < pixels.length; i++) pixels[i] = ((pixels[i] as number) / 255) * 2 - 1;
  return pixels;
}

/** The values of a 4-D view in row-major order of its own axes. */
function inOrder({ data, shape, stride, offset }: ndarray.NdArray<Float32Array | Uint8Array>): Float32Array {
  const [a, b, c, d] = shape as [number, number, number, number];
  const [sa, sb, sc, sd] = stride as [number, number, number, number];
  const values = new Float32Array(a * b * c * d);
  let position = 0;
  for (let i = 0; i < a; i++) {
    for (let j = 0; j < b; j++) {
      for (let k = 0; k < c; k++) {
        let from = offset + i * sa + j * sb + k * sc;
        for (let l = 0; l < d; l++, from += sd) values[position++] = data[from] as number;
      }
    }
  }
  return values;
}
