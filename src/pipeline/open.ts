import { printable, WanqError } from '../errors.js';
import { MAX_LATENT_ELEMENTS } from '../limits.js';
import { loadGraph, loadRunnable } from '../onnx/load.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { ModelSource, SessionOptions } from '../runtime/protocol.js';
import { Denoiser, type TransformerFace } from './denoise.js';
import { type LatentShape, latentDims, latentElements, latentShape, type VideoSize } from './geometry.js';
import type { PipelineFolder } from './layout.js';
import { fixedDim, transformerSignature } from './signature.js';

/** What the rest of wanq needs to know of a pipeline before it runs anything. */
export interface PipelineShape extends TransformerFace {
  readonly latents: LatentShape;
  /** Frames and pixels of a video of that latent shape. */
  readonly video: { readonly frames: number; readonly height: number; readonly width: number };
}

/** Wan2.2-TI2V-5B's, for folders that do not say. */
const DEFAULT_PATCH = [1, 2, 2] as const;
const DEFAULT_CHANNELS = 48;

/** @throws WanqError PIPELINE_INVALID, MODEL_INVALID, MODEL_UNSUPPORTED, USAGE (a size that does not fit) */
export async function describePipeline(folder: PipelineFolder, size: VideoSize): Promise<PipelineShape> {
  const file = folder.modelPath('transformer');
  const signature = transformerSignature((await loadRunnable(file)).graph, file);
  const config = await folder.transformerConfig();
  const [, height, width] = config.patch_size ?? DEFAULT_PATCH;
  const patch = [height as number, width as number] as const;
  const scale = await folder.scaleFactors();
  const decoder = (await folder.has('vae_decoder')) ? await loadGraph(folder.modelPath('vae_decoder')) : undefined;
  const channels = fixedDim(signature.latents, 1) ?? config.in_channels ?? DEFAULT_CHANNELS;
  const latents = latentShape(channels, scale, patch, decoder?.graph, size);
  if (!(latentElements(latents) <= MAX_LATENT_ELEMENTS)) {
    const dims = latentDims(latents).join(' x ');
    throw new WanqError('PIPELINE_INVALID', `${printable(folder.root)} makes latents of ${dims}, which are too large`, {
      hint: 'choose a smaller size, or check the channels of the transformer',
    });
  }
  const video = {
    frames: (latents.frames - 1) * scale.temporal + 1,
    height: latents.height * scale.spatial,
    width: latents.width * scale.spatial,
  };
  return { signature, patch, latents, video };
}

/** Opens a transformer: the pipeline's own file, or a rewritten graph that is fed the same way. */
export async function openDenoiser(
  host: RuntimeHost,
  source: ModelSource,
  options: SessionOptions,
  face: TransformerFace,
): Promise<Denoiser> {
  return new Denoiser(await host.createSession(source, options), face);
}
