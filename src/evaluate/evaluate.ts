import path from 'node:path';
import { forwardFlops } from '../analyze/flops.js';
import { findLinears, type Linear } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import { cosine, type Difference, mean, median, relativeError, sqnr } from '../numerics/stats.js';
import { fingerprint, loadModel } from '../onnx/load.js';
import { saveModel } from '../onnx/save.js';
import { runPasses } from '../passes/pass.js';
import { roundWeights } from '../passes/round-weights.js';
import { branchesAt } from '../pipeline/denoise.js';
import type { VideoSize } from '../pipeline/geometry.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { describePipeline, openDenoiser, type PipelineShape } from '../pipeline/open.js';
import { readScheduler } from '../pipeline/schedulers/index.js';
import { encodePrompts } from '../pipeline/text-encoder.js';
import { VaeDecoder, VaeEncoder, type Video } from '../pipeline/vae.js';
import type { Metric, Results } from '../report/results.js';
import { RESULTS_SCHEMA } from '../report/results.js';
import { RuntimeHost } from '../runtime/host.js';
import type { ModelSource, SessionOptions } from '../runtime/protocol.js';
import { providersFor } from '../runtime/providers.js';
import { treeSize } from '../util/files.js';
import { VERSION } from '../version.js';
import { readClips } from './clips.js';
import { FeatureNetwork } from './features.js';
import { featureStatistics, frechetDistance } from './metrics/frechet.js';
import { psnr } from './metrics/psnr.js';
import { ssim } from './metrics/ssim.js';
import { type LatentClip, ModelRuns, type RunContext, type StepError, type Take } from './runs.js';
import { Scratch } from './scratch.js';

/** How the noise floor is made: what nobody would call a change of the model. */
export const NOISE_FLOORS = ['fp16-weights', 'optimization-level', 'none'] as const;

export type NoiseFloor = (typeof NOISE_FLOORS)[number];

export interface EvaluateOptions extends VideoSize {
  /** Pipeline folders. Prompts are encoded and latents decoded with the reference's components for both. */
  readonly reference: string;
  readonly quantized: string;
  readonly prompts: readonly string[];
  readonly negativePrompt: string;
  readonly seedsPerPrompt: number;
  /** Video i starts from the noise of seed + i. */
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
  /** Noise levels of the re-noising test, in (0, 1). */
  readonly sigmas: readonly number[];
  /** Clips file; absent: the reference model's own finished latents. */
  readonly clips?: string | undefined;
  /** Folder of a feature network for FVD. */
  readonly features?: string | undefined;
  /** Videos that teacher forcing, re-noising (without a clips file), the noise floor and the strips look at. */
  readonly inspected: number;
  readonly noiseFloor: NoiseFloor;
  readonly device: string;
  readonly deviceReference?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  /** Gets the frames of inspected videos. @returns the strip's file name for the results */
  readonly onVideo?: ((index: number, reference: Video, quantized: Video) => Promise<string>) | undefined;
}

export interface EvaluationProgress {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
}

/** What one model's session left behind. */
interface ModelOutcome {
  readonly provider: string;
  readonly runtimeVersion: string;
  readonly peakBytes: number;
  readonly forwardMs: number;
}

/**
 * Measures a quantized pipeline against its reference. See DESIGN of the metrics in docs/metrics.md.
 *
 * The models run one after the other, each in a process of its own, so that memory is measured for each and only one has to fit.
 *
 * @throws WanqError of the pipelines, the runtime, the clips and the feature network
 */
export async function evaluate(options: EvaluateOptions): Promise<Results> {
  const evaluation = await Evaluation.open(options);
  try {
    return await evaluation.run();
  } finally {
    await evaluation.close();
  }
}

class Evaluation {
  readonly #options: EvaluateOptions;
  readonly #reference: PipelineFolder;
  readonly #quantized: PipelineFolder;
  readonly #shape: PipelineShape;
  readonly #scratch: Scratch;
  readonly #takes: readonly Take[];
  #done = 0;
  #total = 0;
  #stage = '';

  private constructor(
    options: EvaluateOptions,
    reference: PipelineFolder,
    quantized: PipelineFolder,
    shape: PipelineShape,
    scratch: Scratch,
  ) {
    this.#options = options;
    this.#reference = reference;
    this.#quantized = quantized;
    this.#shape = shape;
    this.#scratch = scratch;
    this.#takes = options.prompts
      .flatMap((prompt) => new Array<string>(options.seedsPerPrompt).fill(prompt))
      .map((prompt, i) => ({ prompt, seed: options.seed + i }));
  }

  static async open(options: EvaluateOptions): Promise<Evaluation> {
    const reference = await PipelineFolder.open(options.reference);
    const quantized = await PipelineFolder.open(options.quantized);
    const shape = await describePipeline(reference, options);
    const other = await describePipeline(quantized, options);
    if (JSON.stringify(shape.latents) !== JSON.stringify(other.latents)) {
      throw new WanqError(
        'PIPELINE_INVALID',
        `${printable(options.quantized)} makes other latents than the reference`,
        {
          hint: 'compare a pipeline with the one it was quantized from',
        },
      );
    }
    return new Evaluation(options, reference, quantized, shape, await Scratch.open());
  }

  close(): Promise<void> {
    return this.#scratch.close();
  }

  async run(): Promise<Results> {
    const { steps, guidance, seed, sigmas, inspected } = this.#options;
    const makeScheduler = await readScheduler(this.#reference);
    const scheduler = makeScheduler(steps).name;
    const clips = await this.#clips();
    const prompts = [
      ...this.#options.prompts,
      this.#options.negativePrompt,
      ...(clips ?? []).map(({ prompt }) => prompt),
    ];
    const embeddings = await this.#withHost((host) =>
      encodePrompts(this.#reference, host, this.#session(this.#options.device), prompts),
    );
    const context: RunContext = {
      shape: this.#shape.latents,
      makeScheduler,
      steps,
      guidance,
      seed,
      embeddings,
      negativePrompt: this.#options.negativePrompt,
      scratch: this.#scratch,
      signal: this.#options.signal,
      onForward: () => this.#tick(),
    };
    const looked = this.#takes.slice(0, inspected);
    const perChain = steps * branchesAt(guidance).length;
    const renoise = (runs: ModelRuns, list: readonly LatentClip[]): Promise<Float32Array[][]> =>
      inSequence(list, (clip, c) => inSequence(sigmas, (sigma, s) => runs.renoised(clip, sigma, c, s)));

    const ownClips = clips?.map(({ prompt, latents }) => ({ prompt, latents }));
    const clipCount = ownClips?.length ?? looked.length;
    this.#begin('reference model', this.#takes.length * perChain + clipCount * sigmas.length);
    const referenceDevice = this.#options.deviceReference ?? this.#options.device;
    const reference = await this.#runModel(
      { path: this.#reference.modelPath('transformer') },
      this.#session(referenceDevice),
      context,
      async (runs) => {
        const finished = await inSequence(this.#takes, (take, i) =>
          runs.sample(take, i < looked.length ? `take${i}` : undefined),
        );
        const latentClips =
          ownClips ?? looked.map(({ prompt }, i) => ({ prompt, latents: finished[i] as Float32Array }));
        return { finished, latentClips, renoised: await renoise(runs, latentClips) };
      },
    );

    this.#begin('quantized model', (this.#takes.length + looked.length) * perChain + clipCount * sigmas.length);
    const quantized = await this.#runModel(
      { path: this.#quantized.modelPath('transformer') },
      this.#session(this.#options.device),
      context,
      async (runs) => ({
        errors: await runs.teacherForced(looked.map((take, i) => ({ take, record: `take${i}` }))),
        finished: await inSequence(this.#takes, (take) => runs.sample(take, undefined)),
        renoised: await renoise(runs, reference.result.latentClips),
      }),
    );
    const floor = await this.#noiseFloor(looked, context, perChain);

    const decoded = await this.#decode({
      clips: clips ?? reference.result.latentClips,
      reference: reference.result,
      quantized: quantized.result,
      floor,
    });
    return this.#results({
      scheduler,
      reference: reference.outcome,
      quantized: quantized.outcome,
      errors: quantized.result.errors,
      textTokens: embeddings.get(this.#options.negativePrompt)?.length ?? 0,
      ...decoded,
    });
  }

  /** The user's clips as latents, or undefined without a clips file. */
  async #clips(): Promise<(LatentClip & { video: Video })[] | undefined> {
    const { clips: file } = this.#options;
    if (file === undefined) return undefined;
    const clips = await readClips(file);
    this.#begin('encoding clips', clips.length);
    return this.#withHost(async (host) => {
      const encoder = await VaeEncoder.open(this.#reference, host, this.#session(this.#options.device));
      return inSequence(clips, async ({ video, prompt }) => {
        const latents = await encoder.encode(video);
        this.#tick();
        return { prompt, video, latents };
      });
    });
  }

  async #noiseFloor(looked: readonly Take[], context: RunContext, perChain: number): Promise<Float32Array[]> {
    const { noiseFloor, deviceReference, device } = this.#options;
    if (noiseFloor === 'none') return [];
    this.#begin('noise floor', looked.length * perChain);
    const file = this.#reference.modelPath('transformer');
    let source: ModelSource = { path: file };
    let options = this.#session(deviceReference ?? device);
    if (noiseFloor === 'fp16-weights') {
      const loaded = await loadModel(file);
      try {
        runPasses(loaded.model, [roundWeights(loaded.read)]);
        await saveModel(loaded.model, loaded.read, this.#scratch.folder);
      } finally {
        await loaded.close();
      }
      source = { path: path.join(this.#scratch.folder, 'model.onnx') };
    } else {
      options = { ...options, optimization: 'disabled' };
    }
    const { result } = await this.#runModel(source, options, context, (runs) =>
      inSequence(looked, (take) => runs.sample(take, undefined)),
    );
    return result;
  }

  /** Decodes everything and compares, one video at a time. */
  async #decode(made: {
    clips: readonly (LatentClip & { video?: Video })[];
    reference: { finished: readonly Float32Array[]; renoised: readonly (readonly Float32Array[])[] };
    quantized: { finished: readonly Float32Array[]; renoised: readonly (readonly Float32Array[])[] };
    floor: readonly Float32Array[];
  }): Promise<Pick<Results, 'psnrDrop' | 'videos'> & { fvd: FvdOutcome | undefined }> {
    const { sigmas, features, inspected, onVideo } = this.#options;
    const { clips, reference, quantized, floor } = made;
    this.#begin('decoding and comparing', this.#takes.length + clips.length * sigmas.length);
    return this.#withHost(async (host) => {
      const session = this.#session(this.#options.device);
      const decoder = await VaeDecoder.open(this.#reference, host, session);
      const network = features === undefined ? undefined : await FeatureNetwork.open(features, host, session);
      const decode = (latents: Float32Array): Promise<Video> => decoder.decode(latents, this.#shape.latents);

      const psnrDrop: Results['psnrDrop'] = [];
      for (const [c, { prompt, latents, video }] of clips.entries()) {
        const truth = video ?? (await decode(latents));
        for (const [s, sigma] of sigmas.entries()) {
          const against = async (renoised: readonly (readonly Float32Array[])[]): Promise<number> =>
            psnr(truth.data, (await decode(renoised[c]?.[s] as Float32Array)).data);
          const ofReference = await against(reference.renoised);
          const ofQuantized = await against(quantized.renoised);
          psnrDrop.push({
            prompt,
            sigma,
            reference: ofReference,
            quantized: ofQuantized,
            drop: ofReference - ofQuantized,
          });
          this.#tick();
        }
      }

      const videos: Results['videos'] = [];
      const sets: { reference: Float32Array[]; quantized: Float32Array[] } = { reference: [], quantized: [] };
      for (const [i, take] of this.#takes.entries()) {
        const a = await decode(reference.finished[i] as Float32Array);
        const b = await decode(quantized.finished[i] as Float32Array);
        const floorLatents = floor[i];
        const f = floorLatents && (await decode(floorLatents));
        videos.push({
          ...take,
          psnr: psnr(a.data, b.data),
          ssim: ssim(a, b),
          floorPsnr: f ? psnr(a.data, f.data) : null,
          floorSsim: f ? ssim(a, f) : null,
          strip: i < inspected && onVideo ? await onVideo(i, a, b) : null,
        });
        if (network) {
          sets.reference.push(await network.features(a));
          sets.quantized.push(await network.features(b));
        }
        this.#tick();
      }
      return { psnrDrop, videos, fvd: network && fvdOutcome(network, sets) };
    });
  }

  async #results(measured: {
    scheduler: string;
    reference: ModelOutcome;
    quantized: ModelOutcome;
    errors: readonly StepError[];
    textTokens: number;
    psnrDrop: Results['psnrDrop'];
    videos: Results['videos'];
    fvd: FvdOutcome | undefined;
  }): Promise<Results> {
    const o = this.#options;
    const { reference, quantized, psnrDrop, videos } = measured;
    const describe = async (folder: PipelineFolder, outcome: ModelOutcome): Promise<Results['reference']> => {
      const loaded = await loadModel(folder.modelPath('transformer'));
      try {
        return {
          path: folder.root,
          fingerprint: await fingerprint(loaded),
          transformerBytes: await treeSize(folder.path('transformer')),
          provider: outcome.provider,
          peakBytes: outcome.peakBytes,
          forwardMs: outcome.forwardMs,
        };
      } finally {
        await loaded.close();
      }
    };
    const facts = {
      reference: await describe(this.#reference, reference),
      quantized: await describe(this.#quantized, quantized),
    };
    const steps = measured.errors.map(({ step, timestep, branch, errors }) => {
      const pooled = errors.reduce(add);
      return {
        step,
        timestep,
        branch,
        sqnr: sqnr(pooled),
        cosine: cosine(pooled),
        relativeError: relativeError(pooled),
      };
    });
    const { channels, frames, height, width } = this.#shape.latents;
    return {
      schema: RESULTS_SCHEMA,
      createdAt: new Date().toISOString(),
      wanqVersion: VERSION,
      runtimeVersion: quantized.runtimeVersion,
      nodeVersion: process.version,
      platform: `${process.platform}-${process.arch}`,
      settings: {
        prompts: o.prompts.length,
        seedsPerPrompt: o.seedsPerPrompt,
        seed: o.seed,
        steps: o.steps,
        guidance: o.guidance,
        negativePrompt: o.negativePrompt,
        scheduler: measured.scheduler,
        latents: [channels, frames, height, width],
        sigmas: [...o.sigmas],
        clips: o.clips ?? 'reference latents',
        features: o.features ?? null,
        noiseFloor: o.noiseFloor,
      },
      ...facts,
      metrics: {
        ...qualityMetrics(measured.errors, psnrDrop, videos),
        ...fvdMetrics(measured.fvd),
        ...costMetrics(facts.reference, facts.quantized),
        int8_speed_bound: await this.#speedBound(measured.textTokens),
      },
      psnrDrop,
      steps,
      videos,
    };
  }

  async #speedBound(textTokens: number): Promise<Metric> {
    const outputs = (linears: readonly Linear[]): Set<string> => new Set(linears.map(({ output }) => output));
    const [before, after] = await Promise.all(
      [this.#reference, this.#quantized].map(async (folder) => {
        const loaded = await loadModel(folder.modelPath('transformer'));
        await loaded.close();
        return findLinears(loaded.model.graph);
      }),
    );
    // A quantized linear's weight comes out of a DequantizeLinear, so findLinears no longer lists it.
    const left = outputs(after as Linear[]);
    const quantized = new Set([...outputs(before as Linear[])].filter((output) => !left.has(output)));
    const { frames, height, width } = this.#shape.latents;
    const tokens = (frames * height * width) / (this.#shape.patch[0] * this.#shape.patch[1]);
    const { bound } = forwardFlops(before as Linear[], tokens, textTokens, quantized);
    return {
      value: Number.isFinite(bound) ? bound : null,
      unit: 'x',
      better: 'higher',
      n: 1,
      note: 'the most a forward of this shape can gain if INT8 products run twice as fast (Amdahl)',
    };
  }

  #session(device: string): SessionOptions {
    return { providers: providersFor(device) };
  }

  async #withHost<T>(use: (host: RuntimeHost) => Promise<T>): Promise<T> {
    const host = new RuntimeHost(this.#options.signal ? { signal: this.#options.signal } : {});
    try {
      return await use(host);
    } finally {
      await host.close();
    }
  }

  #runModel<T>(
    source: ModelSource,
    options: SessionOptions,
    context: RunContext,
    use: (runs: ModelRuns) => Promise<T>,
  ): Promise<{ result: T; outcome: ModelOutcome }> {
    return this.#withHost(async (host) => {
      const denoiser = await openDenoiser(host, source, options, this.#shape);
      const runs = new ModelRuns(denoiser, context);
      const result = await use(runs);
      const { peakBytes, runtimeVersion } = await host.status();
      const { provider } = denoiser.session.info;
      return { result, outcome: { provider, runtimeVersion, peakBytes, forwardMs: median(runs.times) } };
    });
  }

  #begin(stage: string, total: number): void {
    this.#stage = stage;
    this.#total = total;
    this.#done = 0;
    this.#report();
  }

  #tick(): void {
    this.#done++;
    this.#report();
  }

  #report(): void {
    this.#options.onProgress?.({ stage: this.#stage, done: this.#done, total: this.#total });
  }
}

interface FvdOutcome {
  readonly n: number;
  readonly dim: number;
  readonly reference: number;
  readonly quantized: number;
}

function fvdOutcome(
  { reference: truth, dim }: FeatureNetwork,
  sets: { reference: readonly Float32Array[]; quantized: readonly Float32Array[] },
): FvdOutcome {
  const distance = (set: readonly Float32Array[]): number =>
    set.length > 1 ? frechetDistance(featureStatistics(set), truth) : Number.NaN;
  return { n: sets.reference.length, dim, reference: distance(sets.reference), quantized: distance(sets.quantized) };
}

function qualityMetrics(
  errors: readonly StepError[],
  psnrDrop: Results['psnrDrop'],
  videos: Results['videos'],
): Record<string, Metric> {
  const figures = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
  const metric = (values: number[], unit: string, better: 'lower' | 'higher', of = mean): Metric => ({
    value: values.length > 0 ? of(values) : null,
    unit,
    better,
    n: values.length,
  });
  const drops = figures(psnrDrop.map(({ drop }) => drop));
  // One figure for each step, branch and take, as peers report it.
  const ratios = errors.flatMap((row) => row.errors.map(sqnr));
  const cosines = errors.flatMap((row) => row.errors.map(cosine));
  const least = (values: readonly number[]): number => Math.min(...values);
  const most = (values: readonly number[]): number => Math.max(...values);
  return {
    psnr_drop: metric(drops, 'dB', 'lower'),
    psnr_drop_max: metric(drops, 'dB', 'lower', most),
    sqnr: metric(ratios, 'dB', 'higher'),
    sqnr_min: metric(ratios, 'dB', 'higher', least),
    cosine_min: metric(cosines, '', 'higher', least),
    psnr: metric(figures(videos.map((video) => video.psnr)), 'dB', 'higher'),
    psnr_median: metric(figures(videos.map((video) => video.psnr)), 'dB', 'higher', median),
    psnr_floor: metric(figures(videos.map((video) => video.floorPsnr)), 'dB', 'higher'),
    ssim: metric(figures(videos.map((video) => video.ssim)), '', 'higher'),
    ssim_floor: metric(figures(videos.map((video) => video.floorSsim)), '', 'higher'),
  };
}

function fvdMetrics(fvd: FvdOutcome | undefined): Record<string, Metric> {
  const missing = (note: string, n: number): Metric => ({ value: null, unit: '', better: 'lower', n, note });
  if (!fvd) {
    const note = 'no feature network was given (--features)';
    return { fvd_reference: missing(note, 0), fvd_quantized: missing(note, 0), fvd_growth: missing(note, 0) };
  }
  const { n, dim, reference, quantized } = fvd;
  if (n <= dim) {
    const note = `not meaningful: ${n} videos cannot span ${dim} features; give more prompts or seeds`;
    return { fvd_reference: missing(note, n), fvd_quantized: missing(note, n), fvd_growth: missing(note, n) };
  }
  const value = (figure: number, unit: string): Metric => ({ value: figure, unit, better: 'lower', n });
  return {
    fvd_reference: value(reference, ''),
    fvd_quantized: value(quantized, ''),
    fvd_growth: value(100 * (quantized / reference - 1), '%'),
  };
}

function costMetrics(reference: Results['reference'], quantized: Results['quantized']): Record<string, Metric> {
  const ratio = (a: number, b: number): Metric => ({ value: a / b, unit: 'x', better: 'lower', n: 1 });
  return {
    size_ratio: ratio(quantized.transformerBytes, reference.transformerBytes),
    memory_ratio: ratio(quantized.peakBytes, reference.peakBytes),
    latency_ratio: ratio(quantized.forwardMs, reference.forwardMs),
  };
}

function add(a: Difference, b: Difference): Difference {
  return {
    signal: a.signal + b.signal,
    noise: a.noise + b.noise,
    other: a.other + b.other,
    product: a.product + b.product,
  };
}

async function inSequence<T, R>(items: readonly T[], use: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const [index, item] of items.entries()) results.push(await use(item, index));
  return results;
}
