import { copyFile, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { type CalibrationIdentity, readCalibration } from '../calibrate/file.js';
import { printable, WanqError } from '../errors.js';
import { fingerprint, type LoadedModel, loadModel } from '../onnx/load.js';
import { type SavedModel, type SaveProgress, saveModel } from '../onnx/save.js';
import { NORMALIZE } from '../passes/normalize.js';
import { type PassReport, runPasses } from '../passes/pass.js';
import { replaceWeights } from '../passes/replace-weights.js';
import { PipelineFolder, PLAN_NAME } from '../pipeline/layout.js';
import {
  assertSpace,
  assertWritable,
  copyTree,
  refuseExisting,
  refuseInside,
  treeSize,
  writeFolderAtomic,
} from '../util/files.js';
import { VERSION } from '../version.js';
import type { ComponentSummary } from './components/component.js';
import { type ComponentOptions, RewrittenComponents } from './components/index.js';
import { type FittedPlan, fitPlan } from './fit/plan.js';
import type { Verification } from './options.js';
import { openWeights } from './other-weights.js';
import { makePlan, needsCalibration, type PlannedLinear, type PlanOptions, type QuantPlan } from './plan.js';
import { planToFile, readPlan, writePlan } from './plan-file.js';
import { rewriteModel } from './rewrite.js';
import { refuseUnsupported } from './support.js';
import { type Verified, verify } from './verify.js';

export interface QuantizeOptions extends Omit<PlanOptions, 'plan'>, ComponentOptions {
  /** Pipeline folder of the FP32 model. */
  readonly pipeline: string;
  /** Calibration file of that pipeline. It may be absent where nothing is chosen by it: see {@link needsCalibration}. */
  readonly calibration?: string | undefined;
  /** Plan file, which decides instead of all options of a plan. */
  readonly plan?: string | undefined;
  /** Weights to take in place of the model's, as `python/qat.py` writes them. */
  readonly weights?: string | undefined;
  /** Pipeline folder that the components beside the transformer are taken from; absent: that of the model. */
  readonly components?: string | undefined;
  /** Pipeline folder to write; it must not exist. */
  readonly output: string;
  /** Symbolic links to the other components instead of copies. */
  readonly link: boolean;
  /** How far the written model is checked; absent: `auto`. */
  readonly verify?: Verification | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: SaveProgress | undefined;
  /** Called after each activation whose range was chosen. */
  readonly onFitted?: ((done: number, total: number) => void) | undefined;
}

export interface QuantizeSummary extends SavedModel {
  readonly plan: QuantPlan;
  readonly output: string;
  /** What the activations were calibrated on; null without a calibration. */
  readonly inputs: CalibrationIdentity['inputs'] | null;
  readonly verified: Verified;
  /** Values beside the plan's that would not fit into FP16 and keep what reads them in FP32. */
  readonly overflow: readonly string[];
  /** What each pass over the graph did. */
  readonly passes: readonly PassReport[];
  /** The other components that were written anew. */
  readonly components: readonly ComponentSummary[];
}

/**
 * Plans without writing or running anything: what `--dry-run` shows.
 * @throws WanqError as {@link quantize}
 */
export async function planPipeline(options: Omit<QuantizeOptions, 'output' | 'link'>): Promise<QuantPlan> {
  const folder = await PipelineFolder.open(options.pipeline);
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    // A plan without a calibration needs no weights, and may have none.
    return (await bindPlan(loaded, options, options.calibration !== undefined)).plan;
  } finally {
    await loaded.close();
  }
}

/** A plan bound to a graph, and where it comes from. */
export interface PreparedPlan extends FittedPlan {
  readonly options: PlanOptions;
  /** Fingerprint of the model before any pass changed it; empty where it was not asked for. */
  readonly source: string;
  /** What the passes did before planning. */
  readonly passes: readonly PassReport[];
  /** Of the calibration; null without one. */
  readonly identity: CalibrationIdentity | null;
}

/**
 * Normalizes a model and makes its plan; changes `loaded.model`.
 * @param hash whether the fingerprint is wanted
 */
export async function bindPlan(
  loaded: LoadedModel,
  given: Omit<QuantizeOptions, 'output' | 'link'>,
  hash: boolean,
): Promise<PreparedPlan> {
  refuseUnsupported(loaded.model, loaded.path);
  const source = hash ? await fingerprint(loaded) : '';
  const { graph } = loaded.model;
  const passes = runPasses(loaded.model, NORMALIZE);
  const options = await planOptions(given, source, loaded.path);
  const weights = given.weights === undefined ? undefined : await openWeights(given.weights, loaded, graph, source);
  if (weights) passes.push(...runPasses(loaded.model, [replaceWeights(weights.replaced)]));
  if (given.calibration === undefined) {
    const { planned, ...bound } = makePlan(graph, options, undefined);
    refuseSmoothing(planned, options);
    const fitted = planned.every(({ form }) => form === 'integer-dynamic' || form === 'weights')
      ? await fitPlan({ ...bound, planned }, options, undefined)
      : { ...bound, quantized: [], smoothed: [] };
    return { ...fitted, options, source, passes, identity: null };
  }
  const calibration = await readCalibration(given.calibration, { held: false });
  const { done, identity } = calibration;
  if (done.length < identity.promptCount) {
    const [what, hint] = calibration.shard
      ? [`shard ${calibration.shard.join('/')}`, 'join all shards with `wanq merge` first']
      : ['a checkpoint', 'repeat the `wanq calibrate` that left it to finish it'];
    throw new WanqError(
      'CALIBRATION_INVALID',
      `${printable(given.calibration)} is ${what} (${done.length} of ${identity.promptCount} prompts)`,
      { hint },
    );
  }
  if (identity.model !== source) {
    throw new WanqError(
      'CALIBRATION_MISMATCH',
      `${printable(given.calibration)} was made from another model than ${printable(loaded.path)}`,
      { hint: 'run `wanq calibrate` on this pipeline' },
    );
  }
  const { calibration: file, onFitted } = given;
  const bound = makePlan(graph, options, calibration);
  const fitted = await fitPlan(bound, options, {
    ...{ calibration, file, weights: loaded, onFitted },
    smoothing: weights?.smoothing,
  });
  const plan = { ...fitted.plan, model: source };
  return { ...fitted, plan, options, source, passes, identity };
}

/**
 * What is quantized without a calibration is not smoothed either.
 * @throws WanqError USAGE where smoothing is asked for
 */
function refuseSmoothing(planned: readonly PlannedLinear[], { smooth = 'none' }: PlanOptions): void {
  const asked = planned.find(({ form, entry }) => form === 'integer-dynamic' && (entry?.smooth ?? smooth) !== 'none');
  if (!asked) return;
  throw new WanqError('USAGE', `--calibration is missing: ${asked.row.role} is to be smoothed`, {
    hint: 'give it, or --smooth none (in a plan file "smooth": "none")',
  });
}

/**
 * What a plan file says goes before all else.
 * @throws WanqError PLAN_INVALID where it is of another model
 */
async function planOptions(
  { plan: file, ...options }: Omit<QuantizeOptions, 'output' | 'link'>,
  source: string,
  model: string,
): Promise<PlanOptions> {
  if (file === undefined) return options;
  const plan = await readPlan(file);
  if (plan.model !== null && source !== '' && plan.model !== source) {
    throw new WanqError('PLAN_INVALID', `${printable(file)} was made for another model than ${printable(model)}`, {
      hint: 'make a plan of this pipeline, or set its "model" to null if all its linears are here',
    });
  }
  const { target, method, smooth, float } = plan;
  return { ...options, target, method, smooth, float, keep: [], plan };
}

/**
 * Quantizes a pipeline's transformer and writes a complete pipeline folder. The written model is loaded and run before the folder gets its
 * name, so a folder that is there works.
 *
 * @throws WanqError USAGE without a calibration that is needed; OUTPUT_EXISTS, CALIBRATION_MISMATCH, PATTERN_UNMATCHED, MODEL_UNSUPPORTED, NO_SPACE, RUNTIME_FAILED and those of reading
 */
export async function quantize(options: QuantizeOptions): Promise<QuantizeSummary> {
  await refuseExisting(options.output);
  const folder = await PipelineFolder.open(options.pipeline);
  const { root } = options.components === undefined ? folder : await PipelineFolder.open(options.components);
  for (const source of [folder.root, root]) await refuseInside(options.output, source);
  await assertWritable(options.output);
  const { target: runtime } = options.plan === undefined ? options : await readPlan(options.plan);
  const components = await RewrittenComponents.open(folder, { ...options, target: runtime });
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    const bound = await bindPlan(loaded, options, true);
    const { plan, quantized, source, identity, passes } = bound;
    const inputs = identity?.inputs ?? null;
    if (inputs === null && needsCalibration(bound.options)) {
      throw new WanqError('USAGE', '--calibration is missing', {
        hint: 'give it, or look at the plan with --dry-run',
      });
    }
    await checkSpace(options, plan, root, components);
    const { model } = loaded;
    const rewritten = rewriteModel(model, bound);
    model.metadata = new Map([
      ...model.metadata,
      ['wanq.version', VERSION],
      ['wanq.source', source],
      ['wanq.scheme', plan.scheme],
      ['wanq.target', plan.target],
      ['wanq.method', plan.method],
      ['wanq.smooth', String(plan.smooth)],
      ['wanq.precision', plan.precision],
      ['wanq.float', plan.float],
      ...(inputs === null ? [] : [['wanq.inputs', inputs] as const]),
      ...(options.weights === undefined ? [] : [['wanq.weights', 'trained'] as const]),
      ['wanq.keep', JSON.stringify(options.keep)],
      ['wanq.quantized', JSON.stringify(quantized.map(({ linear }) => linear.role))],
    ]);
    return await writeFolderAtomic(options.output, async (target) => {
      for (const name of await readdir(root)) {
        options.signal?.throwIfAborted();
        if (name !== 'transformer' && !components.has(name))
          await copyTree(path.join(root, name), path.join(target, name), options.link);
      }
      await copyTransformer(folder, path.join(target, 'transformer'));
      const saved = await saveModel(model, loaded, path.join(target, 'transformer'), (done, total) => {
        options.signal?.throwIfAborted();
        options.onProgress?.(done, total);
      });
      await writePlan(path.join(target, 'transformer', PLAN_NAME), planToFile({ ...plan, model: source }));
      const verified = await verify(folder, target, plan.bytesBefore, options.verify ?? 'auto', options.signal);
      const others = await components.save(target, options);
      const { overflow } = rewritten;
      const all = [...passes, ...rewritten.passes];
      return { ...saved, plan, inputs, output: options.output, verified, overflow, passes: all, components: others };
    });
  } finally {
    await loaded.close();
    await components.close();
  }
}

/** The transformer's small files (its configuration); the graph and its data are written anew. */
async function copyTransformer(folder: PipelineFolder, target: string): Promise<void> {
  await mkdir(target);
  for (const name of await readdir(folder.path('transformer'))) {
    // A plan of the source is not what was done here.
    if (name.endsWith('.json') && name !== PLAN_NAME)
      await copyFile(folder.path('transformer', name), path.join(target, name));
  }
}

async function checkSpace(
  { output, link }: QuantizeOptions,
  plan: QuantPlan,
  root: string,
  components: RewrittenComponents,
): Promise<void> {
  let needed = plan.bytesAfter + components.bytesAfter;
  if (!link) {
    for (const name of await readdir(root)) {
      if (name !== 'transformer' && !components.has(name)) needed += await treeSize(path.join(root, name));
    }
  }
  await assertSpace(output, needed, printable(output), 'link the other components with --link');
}
