import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { exists, readText } from '../util/files.js';
import { readJson } from '../util/json.js';
import { SafetensorsFile, type SafetensorsType } from '../util/safetensors.js';
import { readConfig, type WanConfig } from './config.js';

/** A tensor of a checkpoint, and where its bytes are. */
export interface StoredTensor {
  readonly dtype: SafetensorsType;
  readonly dims: readonly number[];
  /** Name of the shard, without a folder. */
  readonly file: string;
  /** Of its first byte in the shard, and how many there are. */
  readonly offset: number;
  readonly length: number;
}

/** A file of weights. */
export interface Shard {
  /** Name the checkpoint gives it. */
  readonly name: string;
  /** The file itself: Hugging Face's cache holds links to it. */
  readonly path: string;
  readonly bytes: number;
  /** Device and inode when its header was read. */
  readonly identity: string;
}

/** A diffusers checkpoint of a Wan transformer. No weight of it is read. */
export interface Checkpoint {
  /** What was named, in its real place. */
  readonly folder: string;
  /** Whether `folder` is a whole pipeline's, with the transformer in a folder of its own. */
  readonly whole: boolean;
  /** Folder of the transformer. */
  readonly transformer: string;
  /** Folders of further transformers in a whole checkpoint: Wan2.2's 14B denoises with two, one after the other. */
  readonly others: readonly string[];
  readonly config: WanConfig;
  readonly shards: readonly Shard[];
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

const CONFIG = 'config.json';
const DEFAULT_NAME = 'diffusion_pytorch_model.safetensors';
const INDEX_SUFFIX = '.safetensors.index.json';

/** A name of one path component on every system, without what only attacks have. */
const SHARD_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.()+ -]*\.safetensors$/;

/** Shards of a checkpoint. Wan 14B in FP32: 12. */
const MAX_SHARDS = 1000;

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/**
 * Opens a checkpoint folder (with `transformer/` inside) or a transformer's own folder, and reads its configuration and the headers of its
 * weights.
 *
 * @throws WanqError NOT_A_PIPELINE where the folder is neither; MODEL_INVALID for an index or shards that contradict each other;
 * MODEL_UNSUPPORTED for weights that are not safetensors, and as {@link readConfig}; SAFETENSORS_INVALID, NOT_FOUND, NOT_READABLE
 */
export async function openCheckpoint(named: string): Promise<Checkpoint> {
  const folder = await realpath(named).catch((error) => {
    throw fromSystemError(error, named);
  });
  const whole = await exists(path.join(folder, 'transformer', CONFIG));
  if (!whole && !(await exists(path.join(folder, CONFIG)))) {
    const isFile = !(await stat(folder)).isDirectory();
    throw new WanqError(
      'NOT_A_PIPELINE',
      `${printable(named)} is ${isFile ? 'a file' : 'no diffusers checkpoint: it has no transformer/config.json'}`,
      { hint: 'name the folder that holds transformer/, or the transformer folder itself' },
    );
  }
  const transformer = whole ? path.join(folder, 'transformer') : folder;
  const config = await readConfig(path.join(transformer, CONFIG));
  const { names, map } = await findShards(transformer);
  const shards: Shard[] = [];
  const tensors = new Map<string, StoredTensor>();
  for (const name of names) {
    const { shard, entries } = await openShard(transformer, name);
    shards.push(shard);
    for (const [tensor, stored] of entries) {
      const other = tensors.get(tensor)?.file;
      if (other !== undefined) throw contradiction(transformer, `${tensor} is in ${other} and in ${name}`);
      if (map && map.get(tensor) !== name)
        throw contradiction(transformer, `the index does not know ${tensor} of ${name}`);
      tensors.set(tensor, stored);
    }
  }
  for (const [tensor, file] of map ?? []) {
    if (!tensors.has(tensor))
      throw contradiction(transformer, `the index has ${tensor} in ${file}, and it is not there`);
  }
  return { folder, whole, transformer, others: whole ? await otherTransformers(folder) : [], config, shards, tensors };
}

async function otherTransformers(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => /^transformer_\d+$/.test(name));
  const present = await Promise.all(names.map((name) => exists(path.join(folder, name, CONFIG))));
  return names.filter((_, i) => present[i]);
}

/** @returns the files of weights, and which tensor is in which of them where an index says so */
async function findShards(folder: string): Promise<{ names: string[]; map?: ReadonlyMap<string, string> }> {
  const files = await readdir(folder);
  const index = choose(files, INDEX_SUFFIX, `${DEFAULT_NAME}.index.json`, folder);
  if (index !== undefined) {
    const file = path.join(folder, index);
    const map = new Map(Object.entries((await readJson(file, indexSchema, 'MODEL_INVALID')).weight_map));
    const names = [...new Set(map.values())].sort();
    if (names.length === 0 || names.length > MAX_SHARDS) {
      throw new WanqError('MODEL_INVALID', `${printable(file)} names ${names.length} files`);
    }
    const bad = names.find((name) => !SHARD_NAME.test(name));
    if (bad !== undefined) {
      throw new WanqError(
        'MODEL_INVALID',
        `${printable(file)} names "${printable(bad, 120)}", which is no plain file name`,
        {
          hint: 'shards lie beside their index',
        },
      );
    }
    const absent = names.find((name) => !files.includes(name));
    if (absent !== undefined) {
      throw new WanqError('MODEL_INVALID', `${printable(file)} names ${absent}, which is not there`, {
        hint: 'check that the download is complete',
      });
    }
    return { names, map };
  }
  const single = choose(files, '.safetensors', DEFAULT_NAME, folder);
  if (single !== undefined) return { names: [single] };
  const pickled = files.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  throw new WanqError(
    'MODEL_UNSUPPORTED',
    `${printable(folder)} has no .safetensors file${pickled === undefined ? '' : `, only ${printable(pickled, 80)}`}`,
    { hint: 'download the safetensors weights, or save the model again with safe_serialization=True' },
  );
}

/** The one file with a suffix; of several the one that diffusers loads by default. */
function choose(files: readonly string[], suffix: string, preferred: string, folder: string): string | undefined {
  const found = files.filter((name) => name.endsWith(suffix));
  if (found.length <= 1 || found.includes(preferred)) return found.includes(preferred) ? preferred : found[0];
  throw new WanqError(
    'MODEL_UNSUPPORTED',
    `${printable(folder)} has ${found.length} *${suffix} files, none named ${preferred}`,
    {
      hint: 'leave one set of weights in the folder',
    },
  );
}

/** Bytes of the pointers that a Git clone without LFS leaves in place of large files, at most. */
const POINTER_BYTES = 1024;

async function openShard(folder: string, name: string): Promise<{ shard: Shard; entries: [string, StoredTensor][] }> {
  const named = path.join(folder, name);
  if (!SHARD_NAME.test(name)) throw contradiction(folder, `"${name}" is no plain file name`);
  try {
    const file = await realpath(named);
    const { size, dev, ino } = await stat(file, { bigint: true });
    const opened = await SafetensorsFile.open(file).catch(async (error: unknown) => {
      if (
        size > POINTER_BYTES ||
        !(await readText(file, POINTER_BYTES).catch(() => '')).startsWith('version https://git-lfs')
      )
        throw error;
      throw new WanqError('SAFETENSORS_INVALID', `${printable(named)} is a pointer of Git LFS, not the weights`, {
        hint: 'run `git lfs pull` in the checkpoint',
      });
    });
    await opened.close();
    const entries = [...opened.entries].map(([tensor, { dtype, shape, begin, end }]): [string, StoredTensor] => [
      tensor,
      { dtype, dims: shape, file: name, offset: begin, length: end - begin },
    ]);
    return { shard: { name, path: file, bytes: Number(size), identity: `${dev}:${ino}` }, entries };
  } catch (error) {
    throw fromSystemError(error, named);
  }
}

function contradiction(folder: string, what: string): WanqError {
  return new WanqError('MODEL_INVALID', `${printable(folder)}: ${printable(what)}`, {
    hint: 'download the checkpoint again',
  });
}
