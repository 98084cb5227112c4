import { copyFile, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { type CalibrationIdentity, readCalibration } from '../calibrate/file.js';
import { printable, WanqError } from '../errors.js';
import { fingerprint, type LoadedModel, loadModel } from '../onnx/load.js';
import { type SavedModel, type SaveProgress, saveModel } from '../onnx/save.js';
import { computeFloat16 } from '../passes/compute-float16.js';
import { convertOpset } from '../passes/convert-opset.js';
import { NORMALIZE } from '../passes/normalize.js';
import { type PassReport, runPasses } from '../passes/pass.js';
import { quantizeLinears, SCALE_OPSET } from '../passes/quantize-linears.js';
import { removeUnused } from '../passes/remove-unused.js';
import { storeFloat16 } from '../passes/store-float16.js';
import { topologicalSort } from '../passes/topological-sort.js';
import { PipelineFolder } from '../pipeline/layout.js';
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
import type { Verification } from './options.js';
import { type BoundPlan, makePlan, type PlanOptions, type QuantPlan } from './plan.js';
import { refuseUnsupported } from './support.js';
import { computesFloat16 } from './target.js';
import { type Verified, verify } from './verify.js';

export interface QuantizeOptions extends PlanOptions {
  /** Pipeline folder of the FP32 model. */
  readonly pipeline: string;
  /** Calibration file of that pipeline. */
  readonly calibration: string;
  /** Pipeline folder to write; it must not exist. */
  readonly output: string;
  /** Symbolic links to the other components instead of copies. */
  readonly link: boolean;
  /** How far the written model is checked; absent: `auto`. */
  readonly verify?: Verification | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: SaveProgress | undefined;
}

export interface QuantizeSummary extends SavedModel {
  readonly plan: QuantPlan;
  readonly output: string;
  /** What the activations were calibrated on. */
  readonly inputs: CalibrationIdentity['inputs'];
  readonly verified: Verified;
  /** Values beside the plan's that would not fit into FP16 and keep what reads them in FP32. */
  readonly overflow: readonly string[];
  /** What each pass over the graph did. */
  readonly passes: readonly PassReport[];
}

/**
 * Plans without writing or running anything: what `--dry-run` shows.
 * @throws WanqError as {@link quantize}
 */
export async function planPipeline(
  options: Omit<QuantizeOptions, 'output' | 'link' | 'calibration'> & { calibration?: string | undefined },
): Promise<QuantPlan> {
  const folder = await PipelineFolder.open(options.pipeline);
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    return (await bindPlan(loaded, options)).plan;
  } finally {
    await loaded.close();
  }
}

/** @returns the plan, the fingerprint of the model before any pass changes it (empty without a calibration), and what the passes did before planning */
async function bindPlan(
  loaded: LoadedModel,
  options: PlanOptions & { readonly calibration?: string | undefined },
): Promise<
  BoundPlan & {
    readonly source: string;
    readonly passes: readonly PassReport[];
    readonly inputs: CalibrationIdentity['inputs'];
  }
> {
  refuseUnsupported(loaded.model, loaded.path);
  // A plan without a calibration needs no weights, and may have none.
  const source = options.calibration === undefined ? '' : await fingerprint(loaded);
  const passes = runPasses(loaded.model, NORMALIZE);
  const { graph } = loaded.model;
  if (options.calibration === undefined)
    return { ...makePlan(graph, options, undefined), source, passes, inputs: 'prompts' };
  const calibration = await readCalibration(options.calibration);
  const { done, identity } = calibration;
  if (done.length < identity.promptCount) {
    const [what, hint] = calibration.shard
      ? [`shard ${calibration.shard.join('/')}`, 'join all shards with `wanq merge` first']
      : ['a checkpoint', 'repeat the `wanq calibrate` that left it to finish it'];
    throw new WanqError(
      'CALIBRATION_INVALID',
      `${printable(options.calibration)} is ${what} (${done.length} of ${identity.promptCount} prompts)`,
      { hint },
    );
  }
  if (identity.model !== source) {
    throw new WanqError(
      'CALIBRATION_MISMATCH',
      `${printable(options.calibration)} was made from another model than ${printable(loaded.path)}`,
      { hint: 'run `wanq calibrate` on this pipeline' },
    );
  }
  return { ...makePlan(graph, options, calibration), source, passes, inputs: identity.inputs };
}

/**
 * Quantizes a pipeline's transformer and writes a complete pipeline folder. The written model is loaded and run before the folder gets its
 * name, so a folder that is there works.
 *
 * @throws WanqError OUTPUT_EXISTS, CALIBRATION_MISMATCH, PATTERN_UNMATCHED, MODEL_UNSUPPORTED, NO_SPACE, RUNTIME_FAILED and those of reading
 */
export async function quantize(options: QuantizeOptions): Promise<QuantizeSummary> {
  await refuseExisting(options.output);
  const folder = await PipelineFolder.open(options.pipeline);
  await refuseInside(options.output, folder.root);
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    const { plan, quantized, halved, computed, magnitudes, source, inputs, passes } = await bindPlan(loaded, options);
    await assertWritable(options.output);
    await checkSpace(options, plan, folder);
    const { model } = loaded;
    const opset = Math.max(...quantized.map(({ scaleType = 'float32' }) => SCALE_OPSET[scaleType]));
    const overflow: string[] = [];
    const rewritten = runPasses(model, [
      ...(model.opset < opset ? [convertOpset(opset)] : []),
      quantizeLinears(quantized),
      ...(computesFloat16(plan.target, plan.float)
        ? [
            computeFloat16({
              linears: [...computed, ...quantized.map(({ linear }) => linear)],
              attention: true,
              ranges: magnitudes,
              overflow,
            }),
          ]
        : []),
      storeFloat16(halved),
      topologicalSort,
      removeUnused,
    ]);
    model.metadata = new Map([
      ...model.metadata,
      ['wanq.version', VERSION],
      ['wanq.source', source],
      ['wanq.scheme', plan.scheme],
      ['wanq.target', plan.target],
      ['wanq.method', plan.method],
      ['wanq.float', plan.float],
      ['wanq.inputs', inputs],
      ['wanq.keep', JSON.stringify(options.keep)],
      ['wanq.quantized', JSON.stringify(quantized.map(({ linear }) => linear.role))],
    ]);
    return await writeFolderAtomic(options.output, async (target) => {
      for (const name of await readdir(folder.root)) {
        options.signal?.throwIfAborted();
        if (name !== 'transformer') await copyTree(folder.path(name), path.join(target, name), options.link);
      }
      await copyTransformer(folder, path.join(target, 'transformer'));
      const saved = await saveModel(model, loaded, path.join(target, 'transformer'), (done, total) => {
        options.signal?.throwIfAborted();
        options.onProgress?.(done, total);
      });
      const verified = await verify(folder, target, plan.bytesBefore, options.verify ?? 'auto', options.signal);
      return { ...saved, plan, inputs, output: options.output, verified, overflow, passes: [...passes, ...rewritten] };
    });
  } finally {
    await loaded.close();
  }
}

/** The transformer's small files (its configuration); the graph and its data are written anew. */
async function copyTransformer(folder: PipelineFolder, target: string): Promise<void> {
  await mkdir(target);
  for (const name of await readdir(folder.path('transformer'))) {
    if (name.endsWith('.json')) await copyFile(folder.path('transformer', name), path.join(target, name));
  }
}

async function checkSpace({ output, link }: QuantizeOptions, plan: QuantPlan, folder: PipelineFolder): Promise<void> {
  let needed = plan.bytesAfter;
  if (!link) {
    for (const name of await readdir(folder.root)) {
      if (name !== 'transformer') needed += await treeSize(folder.path(name));
    }
  }
  await assertSpace(output, needed, printable(output), 'link the other components with --link');
}
