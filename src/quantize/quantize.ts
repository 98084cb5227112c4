import { copyFile, mkdir, readdir, statfs } from 'node:fs/promises';
import { freemem } from 'node:os';
import path from 'node:path';
import { readCalibration } from '../calibrate/file.js';
import { printable, WanqError } from '../errors.js';
import { deriveSeed, randn } from '../numerics/rng.js';
import { difference, sqnr } from '../numerics/stats.js';
import { fingerprint, type LoadedModel, loadGraph, loadModel } from '../onnx/load.js';
import { type SavedModel, type SaveProgress, saveModel } from '../onnx/save.js';
import { runPasses } from '../passes/pass.js';
import { quantizeLinears } from '../passes/quantize-linears.js';
import { removeUnused } from '../passes/remove-unused.js';
import { topologicalSort } from '../passes/topological-sort.js';
import { latentElements } from '../pipeline/geometry.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { openDenoiser } from '../pipeline/open.js';
import { fixedDim, transformerSignature } from '../pipeline/signature.js';
import { RuntimeHost } from '../runtime/host.js';
import {
  assertWritable,
  copyTree,
  nearestExisting,
  refuseExisting,
  refuseInside,
  treeSize,
  writeFolderAtomic,
} from '../util/files.js';
import { VERSION } from '../version.js';
import { type BoundPlan, makePlan, type PlanOptions, type QuantPlan } from './plan.js';
import { TARGET_TRAITS } from './target.js';

export interface QuantizeOptions extends PlanOptions {
  /** Pipeline folder of the FP32 model. */
  readonly pipeline: string;
  /** Calibration file of that pipeline. */
  readonly calibration: string;
  /** Pipeline folder to write; it must not exist. */
  readonly output: string;
  /** Symbolic links to the other components instead of copies. */
  readonly link: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: SaveProgress | undefined;
}

export interface QuantizeSummary extends SavedModel {
  readonly plan: QuantPlan;
  readonly output: string;
  /**
   * The written model against the original on one small random input: signal to noise, dB. null where the original does not fit into
   * memory beside; the written model was run all the same.
   */
  readonly verifiedSqnr: number | null;
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

/** @returns the plan, and the fingerprint of the model before any pass changes it; empty where no calibration asks for one */
async function bindPlan(
  loaded: LoadedModel,
  options: PlanOptions & { readonly calibration?: string | undefined },
): Promise<BoundPlan & { readonly source: string }> {
  refuseUnsupported(loaded);
  const { graph } = loaded.model;
  if (options.calibration === undefined) return { ...makePlan(graph, options, undefined), source: '' };
  const calibration = await readCalibration(options.calibration);
  const { done, identity } = calibration;
  if (done.length < identity.promptCount) {
    throw new WanqError(
      'CALIBRATION_INVALID',
      `${printable(options.calibration)} is a checkpoint (${done.length} of ${identity.promptCount} prompts)`,
      { hint: 'repeat the `wanq calibrate` that left it to finish it' },
    );
  }
  const source = await fingerprint(loaded);
  if (identity.model !== source) {
    throw new WanqError(
      'CALIBRATION_MISMATCH',
      `${printable(options.calibration)} was made from another model than ${printable(loaded.path)}`,
      { hint: 'run `wanq calibrate` on this pipeline' },
    );
  }
  return { ...makePlan(graph, options, calibration), source };
}

export function refuseUnsupported({ model, path: file }: Pick<LoadedModel, 'model' | 'path'>): void {
  const quantized = model.graph.nodes.find(({ opType }) => /^(De)?QuantizeLinear$|^QLinear|Integer$/.test(opType));
  if (quantized) {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(file)} is quantized already (it has ${quantized.opType})`, {
      hint: 'start from the FP32 model',
    });
  }
  const input = model.graph.inputs[0];
  if (input?.dtype !== 'float32') {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(file)} computes in ${input?.dtype ?? 'an unknown type'}`, {
      hint: 'this version quantizes FP32 graphs; export the transformer in FP32',
    });
  }
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
    const { plan, quantized, source } = await bindPlan(loaded, options);
    await assertWritable(options.output);
    await checkSpace(options, plan, folder);
    const { model, read } = loaded;
    runPasses(model, [
      quantizeLinears({
        linears: quantized,
        read,
        unsharedActivations: TARGET_TRAITS[options.target].unsharedActivations,
      }),
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
      ['wanq.keep', JSON.stringify(options.keep)],
      ['wanq.quantized', JSON.stringify(quantized.map(({ linear }) => linear.role))],
    ]);
    return await writeFolderAtomic(options.output, async (target) => {
      for (const name of await readdir(folder.root)) {
        options.signal?.throwIfAborted();
        if (name !== 'transformer') await copyTree(folder.path(name), path.join(target, name), options.link);
      }
      await copyTransformer(folder, path.join(target, 'transformer'));
      const saved = await saveModel(model, loaded.read, path.join(target, 'transformer'), (done, total) => {
        options.signal?.throwIfAborted();
        options.onProgress?.(done, total);
      });
      const verifiedSqnr = await verify(folder, target, plan.bytesBefore, options.signal);
      return { ...saved, plan, output: options.output, verifiedSqnr };
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
  const { bavail, bsize } = await statfs(await nearestExisting(output));
  const free = bavail * bsize;
  if (free > needed) return;
  throw new WanqError('NO_SPACE', `${printable(output)} needs ${megabytes(needed)}, and ${megabytes(free)} are free`, {
    hint: 'free some space, choose another disk, or link the other components with --link',
  });
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}

/** onnxruntime may hold a model's weights twice while it packs them. */
const MEMORY_FACTOR = 2.5;

/** Runs the written model, and the original for comparison, once on a small random input. @returns SQNR in dB */
async function verify(
  source: PipelineFolder,
  target: string,
  bytesBefore: number,
  signal: AbortSignal | undefined,
): Promise<number | null> {
  const host = new RuntimeHost({ signal });
  try {
    const file = source.modelPath('transformer');
    const signature = transformerSignature((await loadGraph(file)).graph, file);
    const { patch_size: patch = [1, 2, 2], in_channels } = await source.transformerConfig();
    const side = (axis: number, small: number): number => fixedDim(signature.latents, axis) ?? small;
    const latents = {
      channels: fixedDim(signature.latents, 1) ?? in_channels ?? 48,
      frames: side(2, 2),
      height: side(3, 2 * (patch[1] as number)),
      width: side(4, 2 * (patch[2] as number)),
    };
    const text = { length: fixedDim(signature.text, 1) ?? 8, features: fixedDim(signature.text, 2) ?? 4096 };
    const input = {
      shape: latents,
      latents: randn(1, latentElements(latents)),
      timestep: 500,
      text: { ...text, data: randn(deriveSeed(1, 2), text.length * text.features) },
    };
    const shape = { signature, patch: [patch[1] as number, patch[2] as number] as const };
    const run = async (root: string): Promise<Float32Array> => {
      const written = path.join(root, 'transformer', 'model.onnx');
      const denoiser = await openDenoiser(host, { path: written }, { providers: ['cpu'] }, shape);
      const { velocity } = await denoiser.predict(input);
      await denoiser.session.release();
      return velocity;
    };
    const written = await run(target);
    if (bytesBefore * MEMORY_FACTOR > freemem()) return null;
    return sqnr(difference(await run(source.root), written));
  } finally {
    await host.close();
  }
}
