import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { encodeModel } from '../onnx/codec.js';
import { refuseExisting, refuseInside, writeFolderAtomic } from '../util/files.js';
import { openCheckpoint } from './checkpoint.js';
import { copyCheckpointParts, lackingComponents, takeComponents } from './components.js';
import type { WanConfig } from './config.js';
import { buildTransformer } from './model/transformer.js';
import type { TimestepInput } from './options.js';
import { type CopyProgress, copyShards, linkShards } from './shards.js';
import { type Checked, verifyImported } from './verify.js';
import { CheckpointWeights } from './weights.js';

export interface ImportOptions {
  /** Diffusers checkpoint with `transformer/` in it, or the folder of a transformer. */
  readonly checkpoint: string;
  /** Pipeline folder to write; it must not exist. */
  readonly output: string;
  /** Copies of the weights instead of hard links to the checkpoint's files. */
  readonly copy?: boolean | undefined;
  /** Absent: `batch`. */
  readonly timestep?: TimestepInput | undefined;
  /** ONNX pipeline folder to take what a checkpoint lacks from; linked, or with `copy` copied. */
  readonly components?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Of copying the weights. */
  readonly onProgress?: CopyProgress | undefined;
}

export interface ImportSummary {
  readonly output: string;
  readonly blocks: number;
  readonly nodes: number;
  readonly tensors: number;
  readonly parameters: number;
  /** Bytes of the weights, and the files they are in. */
  readonly weightBytes: number;
  readonly shards: readonly string[];
  /** Types the weights are stored in, with their numbers of tensors. */
  readonly types: Readonly<Record<string, number>>;
  readonly placed: 'linked' | 'copied';
  readonly checked: Checked;
  /** What the folder needs to make videos of prompts, and has not. */
  readonly lacking: readonly string[];
  /** Further transformers of the checkpoint, each to be imported by its own folder. */
  readonly others: readonly string[];
  /** Whether the model wants more than noise and text: an image, or channels that hold one. */
  readonly imageToVideo: boolean;
}

/**
 * Builds the ONNX transformer of a diffusers checkpoint and writes a pipeline folder around it. The weights are not read: the graph points
 * into the checkpoint's own safetensors files, which get a second name beside it. The folder appears complete and checked, or not at all.
 *
 * @throws WanqError OUTPUT_EXISTS, NOT_A_PIPELINE, MODEL_INVALID, MODEL_UNSUPPORTED, SAFETENSORS_INVALID, NOT_WRITABLE (no hard link can be
 * made), NO_SPACE, RUNTIME_FAILED, NON_FINITE, and those of reading and writing files
 */
export async function importCheckpoint(options: ImportOptions): Promise<ImportSummary> {
  const { output, copy = false, timestep = 'batch', components, signal, onProgress } = options;
  await refuseExisting(output);
  const checkpoint = await openCheckpoint(options.checkpoint);
  const { config, shards, tensors } = checkpoint;
  await refuseInside(output, checkpoint.folder);
  const weights = new CheckpointWeights(tensors);
  const model = buildTransformer(config, timestep, weights);
  weights.assertFit(checkpoint.transformer);
  const used = [...model.graph.initializers.values()].filter(({ data }) => data.kind === 'external');
  const weightBytes = used.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return await writeFolderAtomic(output, async (target) => {
    signal?.throwIfAborted();
    const transformer = path.join(target, 'transformer');
    await mkdir(transformer);
    if (copy) await copyShards(shards, transformer, onProgress, signal);
    else await linkShards(shards, transformer);
    const file = path.join(transformer, 'model.onnx');
    await writeFile(file, encodeModel(model), { flag: 'wx' });
    await copyFile(path.join(checkpoint.transformer, 'config.json'), path.join(transformer, 'config.json'));
    if (checkpoint.whole) await copyCheckpointParts(checkpoint.folder, target);
    if (components !== undefined) await takeComponents(components, target, !copy);
    const checked = await verifyImported(file, config, timestep, weightBytes, signal);
    return {
      output,
      blocks: config.layers,
      nodes: model.graph.nodes.length,
      tensors: used.length,
      parameters: used.reduce((sum, { elements }) => sum + elements, 0),
      weightBytes,
      shards: shards.map(({ name }) => name),
      types: Object.fromEntries(countBy(used.map(({ dtype }) => dtype))),
      placed: copy ? 'copied' : 'linked',
      checked,
      lacking: await lackingComponents(target),
      others: checkpoint.others,
      imageToVideo: wantsImage(config),
    };
  });
}

function wantsImage({ imageDim, inChannels, outChannels }: WanConfig): boolean {
  return imageDim !== null || inChannels !== outChannels;
}

function countBy(items: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
  return counts;
}
