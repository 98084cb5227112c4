import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { addDifferences, cosine, median, relativeError, sqnr } from '../numerics/stats.js';
import { fingerprint, loadModel } from '../onnx/load.js';
import { saveModel } from '../onnx/save.js';
import { runPasses } from '../passes/pass.js';
import { roundWeights } from '../passes/round-weights.js';
import { branchesAt } from '../pipeline/denoise.js';
import { PipelineFolder, PLAN_NAME } from '../pipeline/layout.js';
import { describePipeline, openDenoiser, type PipelineShape } from '../pipeline/open.js';
import { readScheduler } from '../pipeline/schedulers/index.js';
import { encodePrompts } from '../pipeline/text-encoder.js';
import { VaeDecoder, VaeEncoder, type Video } from '../pipeline/vae.js';
import { RESULTS_SCHEMA, type Results } from '../report/results.js';
import { RuntimeHost } from '../runtime/host.js';
import type { ModelSource, SessionOptions } from '../runtime/protocol.js';
import { providersFor } from '../runtime/providers.js';
import { treeSize } from '../util/files.js';
import { Scratch } from '../util/scratch.js';
import { VERSION } from '../version.js';
import { readClips } from './clips.js';
import { type Comparison, compareVideos, type MadeVideos } from './compare.js';
import { type ComponentLatents, componentVideos, encoderErrors, KeptVideos } from './component-videos.js';
import {
  type ChangedComponent,
  type ComponentDrift,
  changedComponents,
  driftMetrics,
  driftSection,
  embeddingErrors,
  isChanged,
} from './components.js';
import { type FeatureFiles, FeatureNetwork, readFeatures } from './features.js';
import type { EvaluateOptions } from './options.js';
import { type LatentClip, ModelRuns, type RunContext, type StepError, type Take } from './runs.js';
import { speedBound } from './speed-bound.js';
import { costMetrics, fvdMetrics, qualityMetrics } from './summary.js';

/** What one model's session left behind. */
interface ModelOutcome {
  readonly provider: string;
  readonly runtimeVersion: string;
  readonly peakBytes: number;
  readonly forwardMs: number;
}

/**
 * Measures a quantized pipeline against its reference. docs/metrics.md defines every metric.
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
  readonly #features: FeatureFiles | undefined;
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
    features: FeatureFiles | undefined,
    scratch: Scratch,
  ) {
    this.#options = options;
    this.#reference = reference;
    this.#quantized = quantized;
    this.#shape = shape;
    this.#features = features;
    this.#scratch = scratch;
    this.#takes = options.prompts
      .flatMap((prompt) => new Array<string>(options.seedsPerPrompt).fill(prompt))
      .map((prompt, i) => ({ prompt, seed: options.seed + i }));
  }

  static async open(options: EvaluateOptions): Promise<Evaluation> {
    for (const count of ['seedsPerPrompt', 'inspected'] as const) {
      if (!(options[count] >= 1)) throw new WanqError('USAGE', `${count} must be at least 1, and is ${options[count]}`);
    }
    if (options.prompts.length === 0) throw new WanqError('PROMPTS_EMPTY', 'there are no prompts to evaluate');
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
    const features = options.features === undefined ? undefined : await readFeatures(options.features, shape.video);
    const scratch = options.shared?.scratch ?? (await Scratch.open());
    return new Evaluation(options, reference, quantized, shape, features, scratch);
  }

  async close(): Promise<void> {
    if (!this.#options.shared) await this.#scratch.close();
  }

  /** What is the same for all evaluations that share their reference is made for the first of them. */
  #once<T>(what: string, make: () => Promise<T>): Promise<T> {
    return this.#options.shared?.once(what, make) ?? make();
  }

  async run(): Promise<Results> {
    const { steps, guidance, seed, sigmas, inspected } = this.#options;
    const makeScheduler = await readScheduler(this.#reference);
    const scheduler = makeScheduler(steps).name;
    const clips = await this.#once('clips', () => this.#clips());
    const prompts = [
      ...this.#options.prompts,
      this.#options.negativePrompt,
      ...(clips ?? []).map(({ prompt }) => prompt),
    ];
    const embeddings = await this.#once('embeddings', () =>
      this.#withHost((host) => encodePrompts(this.#reference, host, this.#session(this.#options.device), prompts)),
    );
    const changed = await changedComponents(this.#reference, this.#quantized);
    const ownEmbeddings = isChanged(changed, 'text_encoder')
      ? await this.#withHost((host) =>
          encodePrompts(this.#quantized, host, this.#session(this.#options.device), prompts),
        )
      : undefined;
    const drifted = ownEmbeddings ? embeddingErrors(this.#options.prompts, embeddings, ownEmbeddings) : [];
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

    const clipCount = clips?.length ?? looked.length;
    const records = looked.map((take, i) => ({ take, record: `take${i}` }));
    const perEncoder = ownEmbeddings ? looked.length * perChain : 0;
    this.#begin('reference model', this.#takes.length * perChain + clipCount * sigmas.length + perEncoder);
    const referenceDevice = this.#options.deviceReference ?? this.#options.device;
    const runReference = () =>
      this.#runModel(
        { path: this.#reference.modelPath('transformer') },
        this.#session(referenceDevice),
        context,
        async (runs) => {
          const finished = await inSequence(this.#takes, (take, i) =>
            runs.sample(take, i < looked.length ? `take${i}` : undefined),
          );
          const latentClips: MadeVideos['clips'] =
            clips ?? looked.map(({ prompt }, i) => ({ prompt, latents: finished[i] as Float32Array }));
          const errors = ownEmbeddings && (await runs.fed(ownEmbeddings).teacherForced(records));
          return { finished, latentClips, encoderErrors: errors, renoised: await renoise(runs, latentClips) };
        },
      );
    const encoder = changed.find(({ component }) => component === 'text_encoder')?.quantized.fingerprint ?? 'its own';
    const reference = await this.#once(`reference, text encoder ${encoder}`, runReference);

    const forwards = (this.#takes.length + looked.length) * perChain + clipCount * sigmas.length;
    this.#begin('quantized model', forwards + 2 * perEncoder);
    const quantized = await this.#runModel(
      { path: this.#quantized.modelPath('transformer') },
      this.#session(this.#options.device),
      context,
      async (runs) => {
        const errors = await runs.teacherForced(records);
        const finished = await inSequence(this.#takes, (take) => runs.sample(take, undefined));
        const whole = ownEmbeddings && runs.fed(ownEmbeddings);
        return {
          errors,
          finished,
          renoised: await renoise(runs, reference.result.latentClips),
          pipelineErrors: whole ? await whole.teacherForced(records) : errors,
          pipelineFinished: whole ? await inSequence(looked, (take) => whole.sample(take, undefined)) : finished,
        };
      },
    );
    const { noiseFloor } = this.#options;
    const floor = await this.#once(`noise floor ${noiseFloor}`, () => this.#noiseFloor(looked, context, perChain));

    const kept = new KeptVideos(this.#scratch, this.#shape.video, changed.length > 0 ? looked.length : 0);
    const decoded = await this.#compare(
      { clips: reference.result.latentClips, reference: reference.result, quantized: quantized.result, floor },
      kept,
    );
    const { pipelineErrors, pipelineFinished } = quantized.result;
    const drift = changed.length > 0 && {
      changed,
      embeddings: drifted,
      encoderErrors: reference.result.encoderErrors,
      pipelineErrors,
      ...(await this.#componentRuns(changed, kept, {
        takes: looked,
        reference: reference.result.finished,
        pipeline: pipelineFinished,
        transformer: decoded.videos.map((video) => video.psnr),
      })),
    };
    return this.#results({
      scheduler,
      reference: reference.outcome,
      quantized: quantized.outcome,
      errors: quantized.result.errors,
      textTokens: embeddings.get(this.#options.negativePrompt)?.length ?? 0,
      drift: drift || undefined,
      ...decoded,
    });
  }

  /** The user's clips as latents, or undefined without a clips file. */
  async #clips(): Promise<(LatentClip & { video: Video })[] | undefined> {
    const { clips: file } = this.#options;
    if (file === undefined) return undefined;
    const clips = await readClips(file);
    const { frames, height, width } = this.#shape.video;
    const other = clips.find(({ video: v }) => v.frames !== frames || v.height !== height || v.width !== width);
    if (other) {
      const sizes = [other.video, this.#shape.video].map((v) => `${v.frames} x ${v.height} x ${v.width}`);
      throw new WanqError(
        'CLIPS_INVALID',
        `${printable(file)} holds clips of ${sizes[0]}, and the pipeline makes ${sizes[1]}`,
        {
          hint: 'cut and scale the clips to that size (frames x height x width), or give --frames, --height and --width',
        },
      );
    }
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
        runPasses(loaded.model, [roundWeights]);
        await saveModel(loaded.model, loaded, this.#scratch.folder);
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

  #compare(made: MadeVideos, kept: KeptVideos): Promise<Comparison> {
    const { device } = this.#options;
    this.#begin('decoding and comparing', this.#takes.length + made.clips.length * this.#options.sigmas.length);
    return this.#withHost(async (host) => {
      const session = this.#session(device);
      const decoder = await VaeDecoder.open(this.#reference, host, session);
      const network = this.#features && (await FeatureNetwork.open(this.#features, host, session));
      const decode = (latents: Float32Array): Promise<Video> => decoder.decode(latents, this.#shape.latents);
      const { shared } = this.#options;
      shared?.keepVideos([...made.reference.finished, ...made.reference.renoised.flat(), ...made.floor]);
      return compareVideos(made, {
        ...this.#options,
        takes: this.#takes,
        network,
        decode: (latents) => shared?.video(latents, decode) ?? decode(latents),
        onReference: (i, video) => kept.keep(i, video),
        onCompared: () => this.#tick(),
      });
    });
  }

  async #componentRuns(
    changed: readonly ChangedComponent[],
    kept: KeptVideos,
    latents: ComponentLatents,
  ): Promise<Pick<ComponentDrift, 'videos' | 'latents'>> {
    const { device, signal } = this.#options;
    const session = this.#session(device);
    const context = { shape: this.#shape, session, signal, kept, onVideo: () => this.#tick() };
    const [decodes, encodes] = [isChanged(changed, 'vae_decoder'), isChanged(changed, 'vae_encoder')];
    this.#begin('the whole pipeline', kept.count * (encodes ? 3 : 1));
    return {
      videos: await componentVideos(decodes ? this.#quantized : this.#reference, decodes, latents, context),
      latents: encodes ? await encoderErrors(this.#reference, this.#quantized, context) : undefined,
    };
  }

  async #results(
    measured: Comparison & {
      scheduler: string;
      reference: ModelOutcome;
      quantized: ModelOutcome;
      errors: readonly StepError[];
      textTokens: number;
      drift: ComponentDrift | undefined;
    },
  ): Promise<Results> {
    const o = this.#options;
    const { reference, quantized, psnrDrop, videos, drift } = measured;
    const describe = async (folder: PipelineFolder, outcome: ModelOutcome): Promise<Results['reference']> => {
      const loaded = await loadModel(folder.modelPath('transformer'));
      try {
        return {
          path: folder.root,
          fingerprint: await fingerprint(loaded),
          transformerBytes: await treeSize(folder.path('transformer'), [PLAN_NAME]),
          provider: outcome.provider,
          peakBytes: outcome.peakBytes,
          forwardMs: outcome.forwardMs,
          calibratedOn: loaded.model.metadata.get('wanq.inputs') ?? null,
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
      const pooled = errors.reduce(addDifferences);
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
        ...(drift ? driftMetrics(drift) : {}),
        ...costMetrics(facts.reference, facts.quantized),
        int8_speed_bound: await speedBound(this.#reference, this.#quantized, this.#shape, measured.textTokens),
      },
      psnrDrop,
      steps,
      videos,
      ...(drift ? { components: driftSection(drift) } : {}),
    };
  }

  #session(device: string): SessionOptions {
    return { providers: providersFor(device) };
  }

  async #withHost<T>(use: (host: RuntimeHost) => Promise<T>): Promise<T> {
    const host = new RuntimeHost({ signal: this.#options.signal });
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

async function inSequence<T, R>(items: readonly T[], use: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const [index, item] of items.entries()) results.push(await use(item, index));
  return results;
}
