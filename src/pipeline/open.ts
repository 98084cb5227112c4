import { loadGraph } from '../onnx/load.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { ModelSource, SessionOptions } from '../runtime/protocol.js';
import { Denoiser } from './denoise.js';
import { type LatentShape, latentShape, type VideoSize } from './geometry.js';
import type { PipelineFolder } from './layout.js';
import { fixedDim, type TransformerSignature, transformerSignature } from './signature.js';

/** What the rest of wanq needs to know of a pipeline before it runs anything. */
export interface PipelineShape {
  readonly signature: TransformerSignature;
  /** Height and width of a token in latent units. */
  readonly patch: readonly [number, number];
  readonly latents: LatentShape;
  /** Frames and pixels of a video of that latent shape. */
  readonly video: { readonly frames: number; readonly height: number; readonly width: number };
}

const DEFAULT_PATCH = [1, 2, 2] as const;

/** @throws WanqError PIPELINE_INVALID, MODEL_INVALID, MODEL_UNSUPPORTED, USAGE (a size that does not fit) */
export async function describePipeline(folder: PipelineFolder, size: VideoSize): Promise<PipelineShape> {
  const file = folder.modelPath('transformer');
  const signature = transformerSignature((await loadGraph(file)).graph, file);
  const config = await folder.transformerConfig();
  const [, height, width] = config.patch_size ?? DEFAULT_PATCH;
  const patch = [height as number, width as number] as const;
  const vae = await folder.vaeConfig();
  const decoder = (await folder.has('vae_decoder')) ? await loadGraph(folder.modelPath('vae_decoder')) : undefined;
  const channels = fixedDim(signature.latents, 1) ?? config.in_channels ?? vae.latents_mean.length;
  const latents = latentShape(channels, vae, patch, decoder?.graph, size);
  const video = {
    frames: (latents.frames - 1) * vae.scale_factor_temporal + 1,
    height: latents.height * vae.scale_factor_spatial,
    width: latents.width * vae.scale_factor_spatial,
  };
  return { signature, patch, latents, video };
}

/** Opens a transformer: the pipeline's own file, or a rewritten graph that is fed the same way. */
export async function openDenoiser(
  host: RuntimeHost,
  source: ModelSource,
  options: SessionOptions,
  { signature, patch }: Pick<PipelineShape, 'signature' | 'patch'>,
): Promise<Denoiser> {
  return new Denoiser(await host.createSession(source, options), signature, patch);
}
