import type { Video } from '../pipeline/vae.js';
import type { Results } from '../report/results.js';
import type { FeatureNetwork } from './features.js';
import { type FvdOutcome, fvdOutcome } from './fvd.js';
import { psnr } from './metrics/psnr.js';
import { ssim } from './metrics/ssim.js';
import type { EvaluateOptions } from './options.js';
import type { LatentClip, Take } from './runs.js';

/** Latents that one model made. */
export interface MadeLatents {
  /** One for each take. */
  readonly finished: readonly Float32Array[];
  /** One for each clip and sigma. */
  readonly renoised: readonly (readonly Float32Array[])[];
}

export interface MadeVideos {
  readonly clips: readonly (LatentClip & { readonly video?: Video })[];
  readonly reference: MadeLatents;
  readonly quantized: MadeLatents;
  /** Finished latents of the first takes under the harmless change. */
  readonly floor: readonly Float32Array[];
}

export interface Comparison extends Pick<Results, 'psnrDrop' | 'videos'> {
  readonly fvd: FvdOutcome | undefined;
}

export interface CompareContext extends Pick<EvaluateOptions, 'sigmas' | 'inspected' | 'onVideo'> {
  readonly takes: readonly Take[];
  readonly network: FeatureNetwork | undefined;
  decode(latents: Float32Array): Promise<Video>;
  /** Gets every video of the reference, by the position of its take. */
  onReference?: ((index: number, video: Video) => Promise<void>) | undefined;
  onCompared(): void;
}

/** Decodes both models' latents and compares them, one video at a time: frames of a whole set do not fit into memory. */
export async function compareVideos(made: MadeVideos, context: CompareContext): Promise<Comparison> {
  return { psnrDrop: await psnrDrops(made, context), ...(await freeRuns(made, context)) };
}

async function psnrDrops(
  { clips, reference, quantized }: MadeVideos,
  { sigmas, decode, onCompared }: CompareContext,
): Promise<Results['psnrDrop']> {
  const rows: Results['psnrDrop'] = [];
  for (const [c, { prompt, latents, video }] of clips.entries()) {
    const truth = video ?? (await decode(latents));
    const against = async ({ renoised }: MadeLatents, s: number): Promise<number> =>
      psnr(truth.data, (await decode(renoised[c]?.[s] as Float32Array)).data);
    for (const [s, sigma] of sigmas.entries()) {
      const ofReference = await against(reference, s);
      const ofQuantized = await against(quantized, s);
      // Both infinite: both reproduce the clip exactly.
      const drop = ofReference === ofQuantized ? 0 : ofReference - ofQuantized;
      rows.push({ prompt, sigma, reference: ofReference, quantized: ofQuantized, drop });
      onCompared();
    }
  }
  return rows;
}

async function freeRuns(
  { reference, quantized, floor }: MadeVideos,
  { takes, inspected, network, decode, onVideo, onReference, onCompared }: CompareContext,
): Promise<Omit<Comparison, 'psnrDrop'>> {
  const videos: Results['videos'] = [];
  const features: { reference: Float32Array[]; quantized: Float32Array[] } = { reference: [], quantized: [] };
  for (const [i, take] of takes.entries()) {
    const a = await decode(reference.finished[i] as Float32Array);
    await onReference?.(i, a);
    const b = await decode(quantized.finished[i] as Float32Array);
    const changed = floor[i] && (await decode(floor[i]));
    videos.push({
      ...take,
      psnr: psnr(a.data, b.data),
      ssim: ssim(a, b),
      floorPsnr: changed ? psnr(a.data, changed.data) : null,
      floorSsim: changed ? ssim(a, changed) : null,
      strip: i < inspected && onVideo ? await onVideo(i, a, b) : null,
    });
    if (network) {
      features.reference.push(await network.features(a));
      features.quantized.push(await network.features(b));
    }
    onCompared();
  }
  return { videos, fvd: network && fvdOutcome(network, features) };
}
