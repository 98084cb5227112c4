import { VaeDecoder, type Video } from '../../pipeline/vae.js';
import type { Results } from '../../report/results.js';
import { ahead } from '../../util/ahead.js';
import type { ClipSource } from '../clips/index.js';
import { type FeatureFiles, FeatureNetwork } from '../features.js';
import { msSsim } from '../metrics/ms-ssim.js';
import { framePsnr, psnr } from '../metrics/psnr.js';
import { ssim } from '../metrics/ssim.js';
import { temporalDifference } from '../metrics/temporal.js';
import type { EvaluateOptions, Pictures } from '../options.js';
import { type PerceptualFile, PerceptualNetwork } from '../perceptual.js';
import type { LatentClip } from '../runs.js';
import type { Workbench } from '../workbench.js';
import { keys } from './models.js';

/** Videos. One would leave the runtime idle while this process compares. */
const DECODED_AHEAD = 2;

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
  const { sigmas } = bench.options;
  const rows: Results['psnrDrop'] = [];
  // The runtime, a process of its own, decodes the next video while the last one is compared here.
  const videos = ahead(
    clips.flatMap(({ key }, c) => [
      ...(source ? [] : [key]),
      ...sigmas.flatMap((_, s) => [keys.renoised('reference', c, s), keys.renoised('quantized', c, s)]),
    ]),
    decode,
    DECODED_AHEAD,
  );
  for (const [clip, { prompt }] of clips.entries()) {
    const truth = source ? await source.video(clip) : await taken(videos);
    for (const sigma of sigmas) {
      const reference = psnr(truth.data, (await taken(videos)).data);
      const quantized = psnr(truth.data, (await taken(videos)).data);
      // Both infinite: both reproduce the clip exactly.
      const drop = reference === quantized ? 0 : reference - quantized;
      rows.push({ clip, prompt, sigma, reference, quantized, drop });
      bench.tick();
    }
  }
  return rows;
}

async function taken(videos: AsyncGenerator<Video, undefined>): Promise<Video> {
  return (await videos.next()).value as Video;
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
  const { takes, inspected } = bench;
  const isFloored = (i: number): boolean => floor && i < inspected.length;
  const decoded = ahead(
    takes.flatMap((_, i) =>
      ['reference', 'quantized', ...(isFloored(i) ? ['floor'] : [])].map((of) => keys.take(of, i)),
    ),
    decode,
    DECODED_AHEAD,
  );
  const videos: ComparedVideos['videos'] = [];
  const pictures = new Pictured(bench.options.onVideo);
  const seen = { reference: [] as Float32Array[], quantized: [] as Float32Array[] };
  try {
    for (const [i, take] of takes.entries()) {
      const a = await taken(decoded);
      const b = await taken(decoded);
      if (i < inspected.length) {
        await onReference(i, a);
        await pictures.draw(i, a, b);
      }
      const changed = isFloored(i) ? await taken(decoded) : undefined;
      const looked = features && Promise.all([features.features(a), features.features(b)]);
      looked?.catch(() => {});
      const temporal = temporalDifference(a, b);
      const structure = msSsim(a, b);
      videos.push({
        ...take,
        psnr: psnr(a.data, b.data),
        ssim: structure.ssim,
        msSsim: structure.value,
        temporalPsnr: temporal?.psnr ?? null,
        flicker: temporal?.flickerRatio ?? null,
        lpips: perceptual ? await perceptual.distance(a, b) : null,
        floorPsnr: changed ? psnr(a.data, changed.data) : null,
        floorSsim: changed ? ssim(a, changed) : null,
        framePsnr: i < inspected.length ? framePsnr(a, b) : null,
        strip: null,
        sheets: null,
      });
      const pair = await looked;
      if (pair) {
        seen.reference.push(pair[0]);
        seen.quantized.push(pair[1]);
      }
      bench.tick();
    }
  } finally {
    await pictures.settled();
  }
  return {
    videos: videos.map((video, i) => ({ ...video, ...pictures.of(i) })),
    features: features ? seen : undefined,
  };
}

/** Pictures of videos, drawn one behind while others are decoded. */
class Pictured {
  readonly #onVideo: EvaluateOptions['onVideo'];
  readonly #made = new Map<number, Pictures>();
  #drawing: Promise<void> | undefined;

  constructor(onVideo: EvaluateOptions['onVideo']) {
    this.#onVideo = onVideo;
  }

  async draw(index: number, reference: Video, quantized: Video): Promise<void> {
    await this.#drawing;
    this.#drawing = this.#onVideo?.(index, reference, quantized).then((made) => {
      this.#made.set(index, made);
    });
    this.#drawing?.catch(() => {});
  }

  /** @throws what the last drawing threw */
  async settled(): Promise<void> {
    await this.#drawing;
  }

  of(index: number): Pick<ComparedVideos['videos'][number], 'strip' | 'sheets'> {
    return this.#made.get(index) ?? { strip: null, sheets: null };
  }
}
