import { constants } from 'node:fs';
import { copyFile, link, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { assertSpace, openRegular, readFully, writeFully } from '../util/files.js';
import type { Shard } from './checkpoint.js';

/** Bytes copied so far, and in all. */
export type CopyProgress = (done: number, total: number) => void;

/** Small enough that memory stays low and Ctrl-C is answered at once. */
const PIECE = 8 * 2 ** 20;

/** Why a file system makes no hard link; EPERM is also what Linux says of files of other users. */
const NO_LINK = new Set(['EXDEV', 'EPERM', 'EACCES', 'EMLINK', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP']);

/**
 * Gives each shard a second name in `folder`. Only so can a model read them where they are: onnxruntime, like wanq, refuses data outside
 * the model's folder, through `..`, absolute paths and symbolic links alike.
 *
 * @throws WanqError NOT_WRITABLE where the file system makes no hard links; MODEL_INVALID where a shard is no longer the file that was read
 */
export async function linkShards(shards: readonly Shard[], folder: string): Promise<void> {
  for (const shard of shards) {
    const target = path.join(folder, shard.name);
    await link(shard.path, target).catch((error: NodeJS.ErrnoException) => {
      if (!NO_LINK.has(error.code ?? '')) throw error;
      const why = error.code === 'EXDEV' ? 'the output is on another file system' : `the system refuses, ${error.code}`;
      throw new WanqError('NOT_WRITABLE', `${printable(shard.path)} cannot be hard-linked (${why})`, {
        hint: 'copy the weights with --copy, or name an output on the file system of the checkpoint',
        cause: error,
      });
    });
    const { dev, ino } = await stat(target, { bigint: true });
    if (`${dev}:${ino}` !== shard.identity) throw changed(shard);
  }
}

/**
 * Copies the shards into `folder`, sharing blocks where the file system can.
 * @throws WanqError NO_SPACE before anything is copied byte by byte; INTERRUPTED; MODEL_INVALID where a shard changed its size
 */
export async function copyShards(
  shards: readonly Shard[],
  folder: string,
  onProgress?: CopyProgress,
  signal?: AbortSignal,
): Promise<void> {
  const total = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  let checked = false;
  for (const shard of shards) {
    const target = path.join(folder, shard.name);
    if (await clone(shard.path, target)) {
      done += shard.bytes;
      onProgress?.(done, total);
      continue;
    }
    if (!checked) await assertSpace(folder, total - done, 'the output', 'link the weights by leaving out --copy');
    checked = true;
    await copyBytes(shard, target, (bytes) => {
      signal?.throwIfAborted();
      done += bytes;
      onProgress?.(done, total);
    });
  }
}

async function clone(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch {
    await rm(to, { force: true });
    return false;
  }
}

async function copyBytes(shard: Shard, to: string, onCopied: (bytes: number) => void): Promise<void> {
  const { handle: from, size } = await openRegular(shard.path);
  try {
    if (size !== shard.bytes) throw changed(shard);
    const target = await open(to, 'wx');
    try {
      for (let at = 0; at < size; at += PIECE) {
        const bytes = await readFully(from, at, Math.min(PIECE, size - at));
        await writeFully(target, bytes, at);
        onCopied(bytes.byteLength);
      }
    } finally {
      await target.close();
    }
  } finally {
    await from.close();
  }
}

function changed({ path: file }: Shard): WanqError {
  return new WanqError('MODEL_INVALID', `${printable(file)} was replaced while it was imported`, {
    hint: 'import it again',
  });
}
