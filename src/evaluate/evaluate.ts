import { addDifferences, cosine, mean, relativeError, sqnr } from '../numerics/stats.js';
import { fingerprint, loadModel } from '../onnx/load.js';
import { type PipelineFolder, PLAN_NAME } from '../pipeline/layout.js';
import { readScheduler } from '../pipeline/schedulers/index.js';
import { RESULTS_SCHEMA, type Results } from '../report/results.js';
import { treeSize } from '../util/files.js';
import { contentHash, sha256 } from '../util/hash.js';
import { VERSION } from '../version.js';
import { componentVideos, encoderErrors, KeptVideos } from './component-videos.js';
import {
  type ComponentDrift,
  changedComponents,
  driftMetrics,
  driftSection,
  embeddingErrors,
  isChanged,
} from './components.js';
import { readFeatures } from './features.js';
import { journalSettings } from './journal-settings.js';
import type { EvaluateOptions } from './options.js';
import { readPerceptual } from './perceptual.js';
import type { RunContext, StepError } from './runs.js';
import { assertScratchSpace } from './scratch-space.js';
import { speedBound } from './speed-bound.js';
import { encodeClips } from './stages/clips.js';
import { checkLinears, compareLinears, enterPlacements } from './stages/linears.js';
import { pooledDrift, runNoiseFloor, runQuantized, runReference } from './stages/models.js';
import { type ComparedVideos, compareVideos, type Networks } from './stages/videos.js';
import { encodeInto, StoredEmbeddings } from './stored-embeddings.js';
import { costMetrics, distributionMetrics, latentDrift, linearMetrics, qualityMetrics } from './summary.js';
import { inSequence, type ModelOutcome, Workbench } from './workbench.js';

/**
 * Measures a quantized pipeline against its reference. docs/metrics.md defines every metric.
 *
 * The models run one after the other, each in a process of its own, so that memory is measured for each and only one has to fit.
 *
 * @throws WanqError of the pipelines, the runtime, the clips and the networks
 */
export async function evaluate(options: EvaluateOptions): Promise<Results> {
  const began = performance.now();
  const bench = await Workbench.open(options);
  try {
    const { video } = bench.shape;
    const networks = {
      features: options.features === undefined ? undefined : await readFeatures(options.features, video),
      perceptual: options.perceptual === undefined ? undefined : await readPerceptual(options.perceptual, video),
    };
    await checkLinears(bench);
    await options.journal?.begin(await journalSettings(bench));
    await assertScratchSpace(bench);
    return await measure(bench, networks, began);
  } finally {
    await bench.close();
  }
}

async function measure(bench: Workbench, networks: Networks, began: number): Promise<Results> {
  const { options, takes, inspected } = bench;
  const makeScheduler = await readScheduler(bench.reference);
  const changed = await changedComponents(bench.reference, bench.quantized);
  const clips = await encodeClips(bench);
  try {
    const prompts = [...options.prompts, options.negativePrompt, ...(clips?.source.prompts ?? [])];
    const embeddings = await encode(bench, bench.reference, prompts);
    const own = isChanged(changed, 'text_encoder') ? await encode(bench, bench.quantized, prompts) : undefined;
    const embedded = own ? await embeddingErrors(options.prompts, embeddings, own) : [];
    const context: RunContext = {
      ...{ shape: bench.shape.latents, makeScheduler, embeddings, scratch: bench.scratch },
      ...{ steps: options.steps, guidance: options.guidance, seed: options.seed },
      negativePrompt: options.negativePrompt,
      signal: options.signal,
      step: (name, make) => bench.step(name, make),
      onForward: () => bench.tick(),
    };
    const encoder = changed.find(({ component }) => component === 'text_encoder')?.quantized.fingerprint ?? 'its own';
    const reference = await bench.once(`reference, text encoder ${encoder}`, () =>
      runReference(bench, context, clips?.latents, own),
    );
    const quantized = await bench.stage('quantized', () => runQuantized(bench, context, reference.result.clips, own));
    const floor = await bench.once(`noise floor ${options.noiseFloor}`, () => runNoiseFloor(bench, context));
    const linears = await bench.stage('linears', () => compareLinears(bench, context));
    await enterPlacements(bench, context);

    const kept = new KeptVideos(bench.scratch, bench.shape.video, changed.length > 0 ? inspected.length : 0);
    const compared = await bench.stage('videos', () =>
      compareVideos(bench, networks, {
        clips: reference.result.clips,
        source: clips?.source,
        floor: floor !== undefined,
        onReference: (i, video) => kept.keep(i, video),
      }),
    );
    const drift = changed.length > 0 && {
      changed,
      embeddings: embedded,
      encoderErrors: reference.result.encoderErrors,
      pipelineErrors: quantized.result.pipelineErrors,
      ...(await bench.stage('components', () =>
        measureComponents(bench, kept, {
          decodes: isChanged(changed, 'vae_decoder'),
          encodes: isChanged(changed, 'vae_encoder'),
          model: own ? 'pipeline' : 'quantized',
          transformer: compared.videos.map(({ psnr }) => psnr),
        }),
      )),
    };
    const facts = {
      reference: await describe(bench.reference, reference.outcome),
      quantized: await describe(bench.quantized, quantized.outcome),
    };
    const { errors } = quantized.result;
    const promptOf = (take: number): number => bench.promptOf(take);
    const takePrompts = takes.map((_, take) => promptOf(take));
    return {
      schema: RESULTS_SCHEMA,
      createdAt: new Date().toISOString(),
      wanqVersion: VERSION,
      runtimeVersion: quantized.outcome.runtimeVersion,
      nodeVersion: process.version,
      platform: `${process.platform}-${process.arch}`,
      settings: await settingsOf(bench, makeScheduler(options.steps).name),
      ...facts,
      devices: bench.devices,
      timing: { wallMs: performance.now() - began, modelMs: bench.modelMs },
      metrics: {
        ...qualityMetrics(errors, compared, promptOf),
        ...latentDrift('latent_drift', quantized.result.drift, promptOf),
        ...latentDrift('latent_drift_floor', floor, promptOf),
        ...(options.linears === false ? {} : linearMetrics(linears)),
        ...distributionMetrics(await featuresOf(bench, compared), networks.features?.reference, takePrompts),
        ...(drift ? driftMetrics(drift) : {}),
        ...costMetrics(facts.reference, facts.quantized),
        int8_speed_bound: await speedBound(
          bench.reference,
          bench.quantized,
          bench.shape,
          embeddings.lengthOf(options.negativePrompt),
        ),
      },
      psnrDrop: compared.psnrDrop,
      steps: stepRows(errors),
      drift: makeScheduler(options.steps).timesteps.map((timestep, step) => ({
        step,
        timestep,
        quantized: pooledDrift(quantized.result.drift, step),
        floor: pooledDrift(floor, step),
      })),
      videos: compared.videos.map((video, take) => ({ ...video, ...ratiosOf(errors, take) })),
      linears,
      ...(drift ? { components: driftSection(drift) } : {}),
    };
  } finally {
    await clips?.source.close();
  }
}

async function encode(bench: Workbench, folder: PipelineFolder, prompts: readonly string[]): Promise<StoredEmbeddings> {
  const shares = folder === bench.reference;
  const [name, label] = shares ? ['reference', undefined] : ['quantized', 'text_encoder of the quantized pipeline'];
  const make = () =>
    bench.withHost(bench.options.device, label, (host, session) =>
      encodeInto(bench.scratch, prompts, { folder, host, session }, name),
    );
  const places = await (shares ? bench.once('embeddings', make) : bench.stage('embeddings of the quantized', make));
  return new StoredEmbeddings(bench.scratch, places);
}

/** Features of every take; undefined without a network. */
async function featuresOf({ scratch }: Workbench, { features }: ComparedVideos) {
  const read = (keys: readonly string[]) => inSequence(keys, (key) => scratch.get(key));
  return features && { reference: await read(features.reference), quantized: await read(features.quantized) };
}

async function measureComponents(
  bench: Workbench,
  kept: KeptVideos,
  {
    encodes,
    ...latents
  }: { decodes: boolean; encodes: boolean; model: string; transformer: readonly (number | null)[] },
): Promise<Pick<ComponentDrift, 'videos' | 'latents'>> {
  bench.begin('the whole pipeline', kept.count * (encodes ? 3 : 1));
  return {
    videos: await componentVideos(bench, kept, latents),
    latents: encodes ? await encoderErrors(bench, kept) : undefined,
  };
}

async function describe(folder: PipelineFolder, outcome: ModelOutcome): Promise<Results['reference']> {
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
}

async function settingsOf({ options: o, shape }: Workbench, scheduler: string): Promise<Results['settings']> {
  const { channels, frames, height, width } = shape.latents;
  return {
    prompts: o.prompts.length,
    promptsDigest: sha256(o.prompts.join('\n')),
    seedsPerPrompt: o.seedsPerPrompt,
    seed: o.seed,
    steps: o.steps,
    guidance: o.guidance,
    negativePrompt: o.negativePrompt,
    scheduler,
    latents: [channels, frames, height, width],
    sigmas: [...o.sigmas],
    clips: o.clips ?? 'reference latents',
    clipsDigest: o.clips === undefined ? null : await contentHash(o.clips),
    features: o.features ?? null,
    featuresDigest: o.features === undefined ? null : await contentHash(o.features),
    perceptual: o.perceptual ?? null,
    noiseFloor: o.noiseFloor,
  };
}

function stepRows(errors: readonly StepError[]): Results['steps'] {
  return errors.map(({ step, timestep, branch, errors: ofTakes }) => {
    const pooled = ofTakes.reduce(addDifferences);
    return { step, timestep, branch, sqnr: sqnr(pooled), cosine: cosine(pooled), relativeError: relativeError(pooled) };
  });
}

/** Teacher-forced figures of one take. */
function ratiosOf(errors: readonly StepError[], take: number): { sqnr: number | null; sqnrMin: number | null } {
  const ratios = errors.flatMap((row) => (row.errors[take] ? [sqnr(row.errors[take])] : []));
  return ratios.length > 0 ? { sqnr: mean(ratios), sqnrMin: Math.min(...ratios) } : { sqnr: null, sqnrMin: null };
}
