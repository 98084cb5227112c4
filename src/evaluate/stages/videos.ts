import { VaeDecoder, type Video } from '../../pipeline/vae.js';
import type { Results } from '../../report/results.js';
import type { ClipSource } from '../clips/index.js';
import { type FeatureFiles, FeatureNetwork } from '../features.js';
import { msSsim } from '../metrics/ms-ssim.js';
import { framePsnr, psnr } from '../metrics/psnr.js';
import { temporalDifference } from '../metrics/temporal.js';
import { type PerceptualFile, PerceptualNetwork } from '../perceptual.js';
import type { LatentClip } from '../runs.js';
import type { Workbench } from '../workbench.js';
import { keys } from './models.js';

/** Networks that videos are looked at with, where the user gave them. */
export interface Networks {
  readonly features: FeatureFiles | undefined;
  readonly perceptual: PerceptualFile | undefined;
}

/** What was measured of decoded videos. */
export interface ComparedVideos {
  readonly psnrDrop: Results['psnrDrop'];
  readonly videos: Omit<Results['videos'][number], 'sqnr' | 'sqnrMin'>[];
  /** Features of every take, where there is a network. */
  readonly features: { readonly reference: Float32Array[]; readonly quantized: Float32Array[] } | undefined;
}

/** What is to be decoded. */
export interface VideoPlan {
  readonly clips: readonly LatentClip[];
  /** The user's clips; absent: the clips are decoded latents themselves. */
  readonly source: ClipSource | undefined;
  /** Whether a noise floor was made. */
  readonly floor: boolean;
  /** Gets every inspected video of the reference. */
  onReference(take: number, video: Video): Promise<void>;
}

/** Decodes both models' latents and compares them, a video at a time: those of a whole set do not fit into memory. */
export function compareVideos(bench: Workbench, networks: Networks, plan: VideoPlan): Promise<ComparedVideos> {
  const { options, takes } = bench;
  bench.begin('decoding and comparing', takes.length + plan.clips.length * options.sigmas.length);
  return bench.withHost(bench.vaeDevice, undefined, async (host, session) => {
    const decoder = await VaeDecoder.open(bench.reference, host, session);
    const { shared } = options;
    const decode = async (key: string): Promise<Video> => {
      const make = async (): Promise<Video> => decoder.decode(await bench.scratch.get(key), bench.shape.latents);
      return shared ? shared.video(key, make) : make();
    };
    shared?.keepVideos(referenceKeys(bench, plan));
    const psnrDrop = await psnrDrops(bench, plan, decode);
    const features = networks.features && (await FeatureNetwork.open(networks.features, host, session));
    const perceptual = networks.perceptual && (await PerceptualNetwork.open(networks.perceptual, host, session));
    return { psnrDrop, ...(await freeRuns(bench, plan, decode, { features, perceptual })) };
  });
}

/** Keys of what other evaluations with this reference decode too. */
function referenceKeys({ takes, inspected, options }: Workbench, { clips, floor }: VideoPlan): string[] {
  return [
    ...takes.map((_, i) => keys.take('reference', i)),
    ...clips.flatMap((_, c) => options.sigmas.map((_, s) => keys.renoised('reference', c, s))),
    ...(floor ? inspected.map((_, i) => keys.take('floor', i)) : []),
  ];
}

type Decode = (key: string) => Promise<Video>;

async function psnrDrops(bench: Workbench, { clips, source }: VideoPlan, decode: Decode): Promise<Results['psnrDrop']> {
  const rows: Results['psnrDrop'] = [];
  for (const [clip, { prompt, key }] of clips.entries()) {
    const truth = source ? await source.video(clip) : await decode(key);
    for (const [s, sigma] of bench.options.sigmas.entries()) {
      const [reference, quantized] = [
        psnr(truth.data, (await decode(keys.renoised('reference', clip, s))).data),
        psnr(truth.data, (await decode(keys.renoised('quantized', clip, s))).data),
      ];
      // Both infinite: both reproduce the clip exactly.
      const drop = reference === quantized ? 0 : reference - quantized;
      rows.push({ clip, prompt, sigma, reference, quantized, drop });
      bench.tick();
    }
  }
  return rows;
}

async function freeRuns(
  bench: Workbench,
  { floor, onReference }: VideoPlan,
  decode: Decode,
  { features, perceptual }: { features: FeatureNetwork | undefined; perceptual: PerceptualNetwork | undefined },
): Promise<Omit<ComparedVideos, 'psnrDrop'>> {
  const videos: ComparedVideos['videos'] = [];
  const seen = { reference: [] as Float32Array[], quantized: [] as Float32Array[] };
  for (const [i, take] of bench.takes.entries()) {
    const inspected = i < bench.inspected.length;
    const a = await decode(keys.take('reference', i));
    const b = await decode(keys.take('quantized', i));
    if (inspected) await onReference(i, a);
    const changed = floor && inspected ? await decode(keys.take('floor', i)) : undefined;
    const temporal = temporalDifference(a, b);
    const structure = msSsim(a, b);
    const pictures = inspected ? await bench.options.onVideo?.(i, a, b) : undefined;
    videos.push({
      ...take,
      psnr: psnr(a.data, b.data),
      ssim: structure.ssim,
      msSsim: structure.value,
      temporalPsnr: temporal?.psnr ?? null,
      flicker: temporal?.flickerRatio ?? null,
      lpips: perceptual ? await perceptual.distance(a, b) : null,
      floorPsnr: changed ? psnr(a.data, changed.data) : null,
      floorSsim: changed ? msSsim(a, changed).ssim : null,
      framePsnr: inspected ? framePsnr(a, b) : null,
      strip: pictures?.strip ?? null,
      sheets: pictures?.sheets ?? null,
    });
    if (features) {
      seen.reference.push(await features.features(a));
      seen.quantized.push(await features.features(b));
    }
    bench.tick();
  }
  return { videos, features: features ? seen : undefined };
}
