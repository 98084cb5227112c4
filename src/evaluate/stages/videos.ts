import { VaeDecoder, type Video } from '../../pipeline/vae.js';
import type { Results } from '../../report/results.js';
import { ahead } from '../../util/ahead.js';
import type { ClipSource } from '../clips/index.js';
import { type FeatureFiles, FeatureNetwork } from '../features.js';
import { msSsim } from '../metrics/ms-ssim.js';
import { framePsnr, psnr } from '../metrics/psnr.js';
import { ssim } from '../metrics/ssim.js';
import { temporalDifference } from '../metrics/temporal.js';
import { type PerceptualFile, PerceptualNetwork } from '../perceptual.js';
import type { LatentClip, Take } from '../runs.js';
import type { Workbench } from '../workbench.js';
import { keys } from './models.js';

/** Clips or takes at a time: the runtime, a process of its own, decodes the next one while this process compares. */
const AT_A_TIME = 2;

/** Networks that videos are looked at with, where the user gave them. */
export interface Networks {
  readonly features: FeatureFiles | undefined;
  readonly perceptual: PerceptualFile | undefined;
}

/** What was measured of decoded videos. */
export interface ComparedVideos {
  readonly psnrDrop: Results['psnrDrop'];
  readonly videos: Omit<Results['videos'][number], 'sqnr' | 'sqnrMin'>[];
  /** Keys of every take's features in the scratch folder, where there is a network. */
  readonly features: { readonly reference: string[]; readonly quantized: string[] } | undefined;
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
  const { sigmas } = bench.options;
  const dropsOf = async (clip: number): Promise<Results['psnrDrop']> => {
    const { prompt, key } = clips[clip] as LatentClip;
    const truth = source ? await source.video(clip) : await decode(key);
    const rows: Results['psnrDrop'] = [];
    for (const [s, sigma] of sigmas.entries()) {
      const [a, b] = await Promise.all(['reference', 'quantized'].map((of) => decode(keys.renoised(of, clip, s))));
      const [reference, quantized] = [psnr(truth.data, (a as Video).data), psnr(truth.data, (b as Video).data)];
      // Both infinite: both reproduce the clip exactly.
      rows.push({
        clip,
        prompt,
        sigma,
        reference,
        quantized,
        drop: reference === quantized ? 0 : reference - quantized,
      });
    }
    return rows;
  };
  const rows: Results['psnrDrop'] = [];
  const found = ahead([...clips.keys()], (clip) => bench.step(`PSNR of clip ${clip}`, () => dropsOf(clip)), AT_A_TIME);
  for await (const ofClip of found) {
    rows.push(...ofClip);
    for (const _ of ofClip) bench.tick();
  }
  return rows;
}

interface OpenNetworks {
  readonly features: FeatureNetwork | undefined;
  readonly perceptual: PerceptualNetwork | undefined;
}

async function freeRuns(
  bench: Workbench,
  { floor, onReference }: VideoPlan,
  decode: Decode,
  { features, perceptual }: OpenNetworks,
): Promise<Omit<ComparedVideos, 'psnrDrop'>> {
  const { takes, inspected, options, scratch } = bench;
  const featureKey = (of: string, i: number): string => `${of}-features${i}`;
  const compare = async (i: number): Promise<ComparedVideos['videos'][number]> => {
    const isInspected = i < inspected.length;
    const [a, b, changed] = await Promise.all([
      decode(keys.take('reference', i)),
      decode(keys.take('quantized', i)),
      floor && isInspected ? decode(keys.take('floor', i)) : undefined,
    ]);
    // Both go on while this process compares.
    const drawn = isInspected ? options.onVideo?.(i, a, b) : undefined;
    const looked = features && Promise.all([features.features(a), features.features(b)]);
    for (const begun of [drawn, looked]) begun?.catch(() => {});
    if (isInspected) await onReference(i, a);
    const temporal = temporalDifference(a, b);
    const structure = msSsim(a, b);
    const row = {
      ...(takes[i] as Take),
      psnr: psnr(a.data, b.data),
      ssim: structure.ssim,
      msSsim: structure.value,
      temporalPsnr: temporal?.psnr ?? null,
      flicker: temporal?.flickerRatio ?? null,
      lpips: perceptual ? await perceptual.distance(a, b) : null,
      floorPsnr: changed ? psnr(a.data, changed.data) : null,
      floorSsim: changed ? ssim(a, changed) : null,
      framePsnr: isInspected ? framePsnr(a, b) : null,
    };
    const pair = await looked;
    for (const [at, of] of pair ? (['reference', 'quantized'] as const).entries() : []) {
      await scratch.put(featureKey(of, i), pair?.[at] as Float32Array);
    }
    return { ...row, ...((await drawn) ?? { strip: null, sheets: null }) };
  };
  const videos: ComparedVideos['videos'] = [];
  const compared = ahead([...takes.keys()], (i) => bench.step(`videos of take ${i}`, () => compare(i)), AT_A_TIME);
  for await (const video of compared) {
    videos.push(video);
    bench.tick();
  }
  const keysOf = (of: string): string[] => takes.map((_, i) => featureKey(of, i));
  return { videos, features: features && { reference: keysOf('reference'), quantized: keysOf('quantized') } };
}
