import { writeFileSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Writable } from 'node:stream';
import { findProducts, type Products } from '../../../src/analyze/leftovers.js';
import { type Calibration, readCalibration } from '../../../src/calibrate/file.js';
import { readEmbeddings } from '../../../src/calibrate/inputs.js';
import { mergeCalibrations } from '../../../src/calibrate/merge.js';
import { applyConfig } from '../../../src/cli/config.js';
import { makeProgram } from '../../../src/cli/program.js';
import { openClips } from '../../../src/evaluate/clips/index.js';
import { readFeatures } from '../../../src/evaluate/features.js';
import { readBaseline } from '../../../src/gate/baseline.js';
import { compareBaseline } from '../../../src/gate/compare.js';
import { judge, withBaseline } from '../../../src/gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../../src/gate/rules.js';
import { openCheckpoint } from '../../../src/import/checkpoint.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { runPasses } from '../../../src/passes/pass.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { readPrompts } from '../../../src/pipeline/prompts.js';
import { readScheduler } from '../../../src/pipeline/schedulers/index.js';
import { type TransformerSignature, transformerSignature } from '../../../src/pipeline/signature.js';
import { PromptTokenizer } from '../../../src/pipeline/tokenizer.js';
import { fitPlan } from '../../../src/quantize/fit/plan.js';
import { openWeights, WEIGHTS_SCHEMA } from '../../../src/quantize/other-weights.js';
import { makePlan, type PlanOptions } from '../../../src/quantize/plan.js';
import { planToFile, readPlan } from '../../../src/quantize/plan-file.js';
import { tensorHistograms } from '../../../src/quantize/tensor-histograms.js';
import { jobSummary } from '../../../src/report/job-summary.js';
import { junitReport } from '../../../src/report/junit.js';
import { markdownReport } from '../../../src/report/markdown.js';
import { type Results, readResults, resultsToJson } from '../../../src/report/results.js';
import { type EvaluationSettings, Evaluations } from '../../../src/search/evaluations.js';
import {
  readFinishedSensitivity,
  readSensitivityFigures,
  type SensitivityIdentity,
  sensitivityText,
} from '../../../src/search/sensitivity-file.js';
import { sha256 } from '../../../src/util/hash.js';
import { writeSafetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE, ROOT } from '../../helpers/fixtures.js';
import { sampleResults } from '../../helpers/results.js';
import { VARIANTS } from '../../helpers/variants.js';
import { Broken } from './outcome.js';
import { PLAN } from './prepare.js';
import type { Random } from './random.js';

export type Format = 'json' | 'safetensors' | 'text';

/** The model that files speak of, loaded once. */
export interface FileContext {
  readonly model: string;
  readonly loaded: LoadedModel;
  readonly products: Products;
  readonly signature: TransformerSignature;
  readonly calibrationFile: string;
  readonly calibration: Calibration;
  readonly results: Results;
}

/** A kind of file, what the real one looks like and how wanq reads it. */
export interface FileKind {
  readonly name: string;
  readonly format: Format;
  /** How often it is taken, beside the others. */
  readonly weight: number;
  /** Where the reader looks for it, below a folder of its own. */
  readonly place: string;
  /** Makes that folder with a valid file in it. */
  make(folder: string, context: FileContext): Promise<void>;
  /** @param folder as {@link make} left it, but for the file */
  read(folder: string, file: string, context: FileContext, random: Random): Promise<void>;
}

/** @param pipeline of the tiny model, with its calibration */
export async function openContext(pipeline: string): Promise<FileContext> {
  const model = path.join(pipeline, 'transformer', 'model.onnx');
  const loaded = await loadModel(model);
  const signature = transformerSignature(loaded.model.graph, model);
  runPasses(loaded.model, NORMALIZE);
  const calibrationFile = path.join(pipeline, 'calibration.safetensors');
  return {
    model,
    loaded,
    products: findProducts(loaded.model.graph),
    signature,
    calibrationFile,
    calibration: await readCalibration(calibrationFile),
    results: sampleResults({ prompts: 3, steps: 3, blocks: 1, frames: 2, height: 8, width: 8 }),
  };
}

async function planned(
  { loaded, products }: FileContext,
  options: PlanOptions,
  file: string,
  calibration: Calibration,
): Promise<void> {
  const bound = makePlan(loaded.model.graph, options, calibration, products);
  const { plan } = await fitPlan(bound, options, { calibration, file, weights: loaded });
  for (const { role, activation } of plan.rows) {
    if (activation && !(activation.scale > 0 && Number.isFinite(activation.scale)))
      throw new Broken(`${role} was given the scale ${activation.scale}`);
  }
}

const CALIBRATED: readonly Partial<PlanOptions>[] = [
  { method: 'minmax' },
  { method: 'kl', target: 'tensorrt' },
  { method: 'percentile', float: 'fp16', target: 'ort-cuda', activations: 'static' },
  { method: 'mse' },
  { method: 'auto', smooth: 'auto' },
  { method: 'minmax', smooth: 0.5 },
];

const SETTINGS = { model: 'm', plan: 'p', prompts: ['a'] } as unknown as EvaluationSettings;
const SETTINGS_HASH = sha256(JSON.stringify(SETTINGS));

const IDENTITY: SensitivityIdentity = {
  model: 'm',
  calibration: null,
  plan: 'p',
  prompts: 'q',
  seed: 0,
  steps: 4,
  guidance: 5,
  scheduler: 'UniPC',
  shape: [4, 2, 8, 8],
  provider: 'cpu',
};
const UNITS = [
  { section: 'linears', name: 'blocks.0.ffn.up' },
  { section: 'groups', name: 'blocks.0.ffn' },
] as const;

const silent = new Writable({ write: (_, __, done) => done() });

/** A pipeline folder without models: a stand-in is where one must be. */
async function pipelineAround(folder: string): Promise<void> {
  await cp(MICRO_PIPELINE, folder, { recursive: true, filter: (from) => !from.endsWith('.onnx') });
  await writeFile(path.join(folder, 'transformer', 'model.onnx'), '');
}

const inPipeline = (
  name: string,
  place: string,
  weight: number,
  read: (folder: PipelineFolder, random: Random) => Promise<unknown>,
): FileKind => ({
  name,
  place,
  weight,
  format: 'json',
  make: pipelineAround,
  read: async (folder, _, __, random) => {
    await read(await PipelineFolder.open(folder), random);
  },
});

const text = (
  name: string,
  place: string,
  content: (context: FileContext) => string,
  kind: Omit<FileKind, 'name' | 'place' | 'make'>,
): FileKind => ({
  name,
  place,
  make: (folder, context) => writeFile(path.join(folder, place), content(context)),
  ...kind,
});

export const FILE_KINDS: readonly FileKind[] = [
  {
    name: 'calibration',
    format: 'safetensors',
    weight: 6,
    place: 'calibration.safetensors',
    make: (folder, { calibrationFile }) => cp(calibrationFile, path.join(folder, 'calibration.safetensors')),
    read: async (folder, file, context, random) => {
      if (random.chance(0.1)) {
        const output = path.join(folder, 'merged');
        await rm(output, { force: true });
        await mergeCalibrations([file], output);
        return;
      }
      const calibration = await readCalibration(file, { held: random.chance(0.3) });
      await planned(context, { ...PLAN, ...random.pick(CALIBRATED) }, file, calibration);
      if (random.chance(0.1)) {
        const bound = makePlan(context.loaded.model.graph, PLAN, calibration, context.products);
        await tensorHistograms({ calibration: file, plan: planToFile(bound.plan) });
      }
    },
  },
  {
    name: 'plan',
    format: 'json',
    weight: 5,
    place: 'plan.json',
    make: async (folder, context) => {
      const options = { ...PLAN, smooth: 0.5 } as const;
      const bound = makePlan(context.loaded.model.graph, options, context.calibration, context.products);
      const { calibration, calibrationFile: file, loaded: weights } = context;
      const { plan } = await fitPlan(bound, options, { calibration, file, weights });
      await writeFile(path.join(folder, 'plan.json'), JSON.stringify(planToFile(plan), null, 2));
    },
    read: async (_, file, context, random) => {
      const plan = await readPlan(file);
      const { target, method, smooth, float } = plan;
      const options = { ...PLAN, target, method, smooth, float, keep: [], plan };
      if (random.chance(0.3)) makePlan(context.loaded.model.graph, options, undefined, context.products);
      else await planned(context, options, context.calibrationFile, context.calibration);
    },
  },
  text(
    'sensitivity',
    'sensitivity.json',
    () => {
      const entry = { damage: 0.001, sqnr: 30, bytesSaved: 10, buckets: { 0: 0.001 }, noise: [0.001] };
      return sensitivityText({
        identity: IDENTITY,
        samples: [{ prompt: 0, step: 1, branch: 'cond', timestep: 900, bucket: 0 }],
        linears: { 'blocks.0.ffn.up': entry },
        groups: { 'blocks.0.ffn': entry },
      });
    },
    {
      format: 'json',
      weight: 2,
      read: async (_, file) => {
        await readSensitivityFigures(file, IDENTITY.model);
        await readFinishedSensitivity(file, { model: 'm', calibration: null, plan: 'p' }, UNITS);
      },
    },
  ),
  text(
    'rules',
    'rules.json',
    () => {
      const rules = [
        { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error', aggregation: 'upper-bound', minSamples: 2 },
        { metric: 'sqnr', operator: '>=', limit: 20, level: 'warn' },
      ];
      return JSON.stringify({ extends: 'wanq:recommended', rules }, null, 2);
    },
    {
      format: 'json',
      weight: 2,
      read: async (_, file, { results }) => {
        const verdict = judge(results.metrics, await readRules(file), { prompts: results.settings.prompts });
        junitReport(verdict);
        jobSummary(verdict, results);
      },
    },
  ),
  {
    name: 'baseline',
    format: 'json',
    weight: 2,
    place: 'baseline.json',
    make: (folder) => cp(path.join(ROOT, '.ci', 'baseline.json'), path.join(folder, 'baseline.json')),
    read: async (_, file, { results }) => {
      const compared = compareBaseline(await readBaseline(file), results);
      junitReport(withBaseline(judge(results.metrics, DEFAULT_RULES), compared));
    },
  },
  text('results', 'results.json', ({ results }) => resultsToJson(results), {
    format: 'json',
    weight: 2,
    read: async (_, file) => {
      const results = await readResults(file);
      const verdict = judge(results.metrics, DEFAULT_RULES, { prompts: results.settings.prompts });
      markdownReport(results, verdict);
      jobSummary(verdict, results);
    },
  }),
  text(
    'evaluations',
    `evaluations-${SETTINGS_HASH.slice(0, 12)}.json`,
    ({ results: { metrics } }) =>
      JSON.stringify({ schema: 2, identity: SETTINGS_HASH, plans: [{ givenBack: ['a'], metrics }] }),
    {
      format: 'json',
      weight: 1,
      read: async (folder) => {
        (await Evaluations.open(folder, SETTINGS)).get(['a']);
      },
    },
  ),
  inPipeline('model_index', 'model_index.json', 1, async () => {}),
  inPipeline('transformer-config', 'transformer/config.json', 1, (folder) => folder.transformerConfig()),
  inPipeline('vae-config', 'vae_decoder/config.json', 1, (folder) => folder.scaleFactors()),
  inPipeline('scheduler', 'scheduler/scheduler_config.json', 2, async (folder, random) => {
    const make = await readScheduler(folder);
    const scheduler = make(random.pick([1, 2, 20, 1000]));
    if (![...scheduler.timesteps, ...scheduler.sigmas].every(Number.isFinite))
      throw new Broken('the scheduler has steps that are not finite');
  }),
  inPipeline('tokenizer', 'tokenizer/tokenizer.json', 2, async (folder) => {
    (await PromptTokenizer.open(folder, undefined)).encode('A small red circle  moving left, café 漢字 🎈');
  }),
  inPipeline('tokenizer-config', 'tokenizer/tokenizer_config.json', 1, async (folder) => {
    (await PromptTokenizer.open(folder, undefined)).encode('A small red circle');
  }),
  text(
    'config',
    'wanq.config.json',
    () =>
      JSON.stringify({
        calibrate: { steps: 20, guidance: 5 },
        quantize: { keep: ['*.ffn.down'], smooth: 'auto', link: true, percentile: 99.9 },
      }),
    {
      format: 'json',
      weight: 1,
      read: async (folder) => {
        const io = { stdout: silent, stderr: silent, env: {}, cwd: () => folder, on: () => {}, off: () => {} };
        const program = makeProgram(io, new AbortController().signal, { code: 0 });
        for (const name of ['calibrate', 'quantize']) {
          const command = program.commands.find((one) => one.name() === name);
          if (command) await applyConfig(command, folder);
        }
      },
    },
  ),
  {
    name: 'embeddings',
    format: 'safetensors',
    weight: 2,
    place: 'embeddings.safetensors',
    make: (folder) => {
      const data = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(i));
      return writeSafetensors(path.join(folder, 'embeddings.safetensors'), {
        tensors: new Map([
          ['prompt_embeds', { dtype: 'F32', shape: [2, 3, 12], data }],
          ['negative_prompt_embeds', { dtype: 'F32', shape: [3, 12], data: data.slice(0, 36) }],
        ]),
        metadata: { prompts: JSON.stringify(['a', 'b']) },
      });
    },
    read: async (_, file, { signature }) => {
      const inputs = await readEmbeddings(file, 5, signature);
      try {
        await inputs.cond(0);
        await inputs.uncond();
      } finally {
        await inputs.close();
      }
    },
  },
  {
    name: 'features',
    format: 'safetensors',
    weight: 1,
    place: 'reference.safetensors',
    make: async (folder) => {
      await cp(path.join(MICRO, 'fvd', 'reference.safetensors'), path.join(folder, 'reference.safetensors'));
      // The network itself is a model, which others mutate.
      await cp(path.join(MICRO, 'fvd', 'model.onnx'), path.join(folder, 'model.onnx'));
    },
    read: async (folder) => {
      const { reference } = await readFeatures(folder, { frames: 17, height: 128, width: 128 });
      if (!(reference.count >= 0)) throw new Broken(`features of ${reference.count} videos`);
    },
  },
  {
    name: 'clips',
    format: 'safetensors',
    weight: 1,
    place: 'clips.safetensors',
    make: (folder) =>
      writeSafetensors(path.join(folder, 'clips.safetensors'), {
        tensors: new Map([['clips', { dtype: 'U8', shape: [2, 2, 4, 4, 3], data: new Uint8Array(192).fill(7) }]]),
        metadata: { prompts: JSON.stringify(['a', 'b']) },
      }),
    read: async (_, file) => {
      const clips = await openClips(file, { frames: 2, height: 4, width: 4 });
      try {
        await clips.video(clips.count - 1);
      } finally {
        await clips.close();
      }
    },
  },
  {
    name: 'weights',
    format: 'safetensors',
    weight: 2,
    place: 'weights.safetensors',
    make: (folder, { products }) => {
      const linear = products.linears.find(({ role }) => role === 'blocks.0.ffn.up');
      if (!linear) throw new Error('the tiny model has no blocks.0.ffn.up');
      const { inFeatures, outFeatures } = linear;
      const values = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => 0.5 + Math.cos(i) / 4);
      return writeSafetensors(path.join(folder, 'weights.safetensors'), {
        tensors: new Map([
          [
            'blocks.0.ffn.up.weight',
            { dtype: 'F32', shape: [outFeatures, inFeatures], data: values(outFeatures * inFeatures) },
          ],
          ['blocks.0.ffn.up.bias', { dtype: 'F32', shape: [outFeatures], data: values(outFeatures) }],
          ['blocks.0.ffn.up.smoothing', { dtype: 'F32', shape: [inFeatures], data: values(inFeatures) }],
        ]),
        metadata: { 'wanq.weights.schema': String(WEIGHTS_SCHEMA), 'wanq.source': '' },
      });
    },
    read: async (_, file, { model }) => {
      const loaded = await loadModel(model);
      try {
        runPasses(loaded.model, NORMALIZE);
        await openWeights(file, loaded, loaded.model.graph, '');
      } finally {
        await loaded.close();
      }
    },
  },
  ...(
    [
      'config.json',
      'diffusion_pytorch_model.safetensors.index.json',
      'diffusion_pytorch_model-00001-of-00002.safetensors',
    ] as const
  ).map(
    (place): FileKind => ({
      name: `checkpoint-${place.replace(/^diffusion_pytorch_model[-.]/, '')}`,
      format: place.endsWith('.json') ? 'json' : 'safetensors',
      weight: 1,
      place,
      make: (folder) => cp(path.join(VARIANTS, 'checkpoint'), folder, { recursive: true }),
      read: async (folder) => {
        await openCheckpoint(folder);
      },
    }),
  ),
  text('prompts', 'prompts.txt', () => 'a red circle\n# a comment\n\nzwei Kreise, größer\r\n', {
    format: 'text',
    weight: 1,
    read: async (_, file) => {
      if ((await readPrompts(file)).length === 0) throw new Broken('there is no prompt');
    },
  }),
];

/** One kind of file in a folder of its own. */
export class FileTarget {
  readonly kind: FileKind;
  readonly bytes: Uint8Array;
  readonly #folder: string;
  readonly #context: FileContext;

  private constructor(kind: FileKind, folder: string, context: FileContext, bytes: Uint8Array) {
    this.kind = kind;
    this.#folder = folder;
    this.#context = context;
    this.bytes = bytes;
  }

  static async open(kind: FileKind, folder: string, context: FileContext): Promise<FileTarget> {
    await mkdir(folder, { recursive: true });
    if ((await readdir(folder)).length === 0) await kind.make(folder, context);
    return new FileTarget(kind, folder, context, await readFile(path.join(folder, kind.place)));
  }

  async run(bytes: Uint8Array, random: Random): Promise<void> {
    const file = path.join(this.#folder, this.kind.place);
    writeFileSync(file, bytes);
    await this.kind.read(this.#folder, file, this.#context, random);
  }
}
