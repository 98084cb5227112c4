import { type BigIntStats, constants } from 'node:fs';
import {
  access,
  copyFile,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  symlink,
} from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { MAX_IO_CHUNK } from '../limits.js';
import { withLock } from './lock.js';
import { removeTemporarySiblings, temporarySibling } from './temporary.js';
import { megabytes } from './units.js';

/** Reads exactly `length` bytes at `offset`, in chunks: a single read past 2^31-1 aborts Node. */
export async function readFully(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await fillFully(handle, offset, bytes);
  return bytes;
}

/** Fills `target` from `offset` on, in chunks. */
export async function fillFully(handle: FileHandle, offset: number, target: Uint8Array): Promise<void> {
  const length = target.byteLength;
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(target, done, Math.min(MAX_IO_CHUNK, length - done), offset + done);
    if (bytesRead === 0) throw new WanqError('NOT_READABLE', `a file ended ${length - done} bytes early`);
    done += bytesRead;
  }
}

/** Writes all of `bytes` at `offset`, in chunks. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const chunk = Math.min(MAX_IO_CHUNK, bytes.byteLength - done);
    const { bytesWritten } = await handle.write(bytes, done, chunk, offset + done);
    done += bytesWritten;
  }
}

/**
 * Opens a file for reading; pipes, devices and folders are refused.
 * @throws WanqError NOT_FOUND; NOT_READABLE
 */
export async function openRegular(file: string): Promise<{ handle: FileHandle; size: number }> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    throw readError(error, file);
  });
  try {
    const info = await handle.stat();
    if (info.isFile()) return { handle, size: info.size };
    throw new WanqError('NOT_READABLE', `${printable(file)} is not a regular file`, { hint: 'name a file' });
  } catch (error) {
    await handle.close();
    throw readError(error, file);
  }
}

/**
 * Opens a file that was looked at before, and only that one: neither a link nor another file has taken its place since (CWE-367).
 * @param file a real path, without links
 * @param seen of the same path, regular
 * @throws WanqError NOT_FOUND; NOT_READABLE
 */
export async function openSeen(file: string, seen: BigIntStats): Promise<{ handle: FileHandle; size: number }> {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  const handle = await open(file, flags).catch((error) => {
    throw readError(error, file);
  });
  try {
    const { dev, ino, size, ...info } = await handle.stat({ bigint: true });
    if (dev === seen.dev && ino === seen.ino && (info.mode & S_IFMT) === S_IFREG) return { handle, size: Number(size) };
    throw new WanqError('NOT_READABLE', `${printable(file)} was replaced while it was opened`, { hint: 'try again' });
  } catch (error) {
    await handle.close();
    throw readError(error, file);
  }
}

const S_IFMT = BigInt(constants.S_IFMT);
const S_IFREG = BigInt(constants.S_IFREG);

function readError(error: unknown, file: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'EACCES' && code !== 'EPERM') return fromSystemError(error, file);
  return new WanqError('NOT_READABLE', `${printable(file)}: permission denied (${code})`, {
    hint: 'change its permissions',
    cause: error,
  });
}

/** @throws WanqError NOT_FOUND; NOT_READABLE, also where the file is no regular one or exceeds `maxBytes` */
export async function readBounded(file: string, maxBytes: number): Promise<Uint8Array> {
  const { handle, size } = await openRegular(file);
  try {
    if (size > maxBytes) {
      throw new WanqError('NOT_READABLE', `${printable(file)} has ${size} bytes, more than the ${maxBytes} allowed`);
    }
    return await readFully(handle, 0, size);
  } catch (error) {
    throw readError(error, file);
  } finally {
    await handle.close();
  }
}

/** @throws WanqError as {@link readBounded}; NOT_READABLE where the file is not UTF-8 */
export async function readText(file: string, maxBytes: number): Promise<string> {
  const bytes = await readBounded(file, maxBytes);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new WanqError('NOT_READABLE', `${printable(file)} is not UTF-8 text`, { hint: 'save it as UTF-8', cause });
  }
}

/** Whether something is there. What cannot be looked at counts as neither: it must not be taken for absent and written over. */
export async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG' || code === 'ERR_INVALID_ARG_VALUE')
      return false;
    throw fromSystemError(error, file);
  }
}

/**
 * Writes a file so that after a crash it is absent, old or complete: sibling, fsync, rename, fsync of the folder.
 * @param sync false: after a power cut the file may be anything, where its reader can tell
 * @throws WanqError NOT_WRITABLE, NO_SPACE, NOT_FOUND
 */
export async function writeAtomic(
  file: string,
  chunks: Iterable<Uint8Array> | string,
  { sync = true } = {},
): Promise<void> {
  return withParents(file, () => replaceFile(file, chunks, sync)).catch((error) => {
    throw fromSystemError(error, file);
  });
}

async function replaceFile(file: string, chunks: Iterable<Uint8Array> | string, sync: boolean): Promise<void> {
  const temporary = temporarySibling(file);
  try {
    const handle = await open(temporary, 'wx');
    try {
      let offset = 0;
      for (const chunk of typeof chunks === 'string' ? [new TextEncoder().encode(chunks)] : chunks) {
        await writeFully(handle, chunk, offset);
        offset += chunk.byteLength;
      }
      if (sync) await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    if (sync) await syncFolder(path.dirname(path.resolve(file)));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Fills a fresh sibling folder and renames it to `target`: the folder appears complete or not at all.
 * @throws WanqError OUTPUT_EXISTS where `target` is there already; LOCKED
 */
export async function writeFolderAtomic<T>(target: string, fill: (folder: string) => Promise<T>): Promise<T> {
  await refuseExisting(target);
  await assertWritable(target);
  return withOutput(target, async () => {
    const temporary = temporarySibling(target);
    try {
      await mkdir(temporary);
      return await fillAndName(temporary, target, fill);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  });
}

/** Gives a complete file or folder its name. @throws WanqError OUTPUT_EXISTS; NOT_WRITABLE and others */
export async function giveName(complete: string, target: string): Promise<void> {
  await refuseExisting(target);
  try {
    await rename(complete, target);
    await syncFolder(path.dirname(path.resolve(target)));
  } catch (error) {
    throw fromSystemError(error, target);
  }
}

/** Fills a folder, makes it last and gives it its name. @throws WanqError as {@link giveName} */
export async function fillAndName<T>(folder: string, target: string, fill: (folder: string) => Promise<T>): Promise<T> {
  const result = await fill(folder);
  await syncTree(folder);
  await giveName(folder, target);
  return result;
}

/**
 * Holds an output for `work`: its folder is made, no other process of wanq writes it meanwhile, and what killed ones left of it is removed.
 * @param others files that are written with it and lie in the same folder
 * @throws WanqError LOCKED; NOT_WRITABLE, NO_SPACE, NOT_FOUND
 */
export async function withOutput<T>(
  target: string,
  work: () => Promise<T>,
  others: readonly string[] = [],
): Promise<T> {
  return withParents(target, () =>
    withLock(target, async () => {
      for (const file of [target, ...others]) await removeTemporarySiblings(file);
      return work();
    }),
  ).catch((error) => {
    throw fromSystemError(error, target);
  });
}

/**
 * Finds out now, not after hours of work, whether `target` could be written. Leaves nothing behind.
 * @throws WanqError NOT_WRITABLE, NOT_FOUND, NO_SPACE
 */
export async function assertWritable(target: string): Promise<void> {
  const parent = path.dirname(path.resolve(target));
  const folder = await nearestExisting(parent);
  const probe = temporarySibling(target);
  try {
    // What a power cut left of a trial file further above, no later call would remove.
    if (folder !== parent) await access(folder, constants.W_OK | constants.X_OK);
    else await (await open(probe, 'wx')).close().finally(() => rm(probe, { force: true }));
  } catch (error) {
    // Some file systems (/proc) say ENOENT for a file they will not make.
    const code = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'EACCES' : (error as NodeJS.ErrnoException).code;
    throw fromSystemError(Object.assign(error as Error, { code }), target);
  }
}

/** Makes the parents of `target` and takes those it made away again if `work` fails. */
async function withParents<T>(target: string, work: () => Promise<T>): Promise<T> {
  const parent = path.dirname(path.resolve(target));
  const first = await mkdir(parent, { recursive: true });
  const made: string[] = [];
  for (let folder = parent; first !== undefined && folder.startsWith(first); folder = path.dirname(folder)) {
    made.push(folder);
  }
  try {
    // Or a power cut could take them away, and what was written into them.
    for (const folder of made) await syncFolder(path.dirname(folder));
    return await work();
  } catch (error) {
    // Somebody else may have put something there by now.
    for (const folder of made) await rmdir(folder).catch(() => {});
    throw error;
  }
}

/**
 * @param target where it will be written; it need not be there
 * @param hint what else there is to do than to free some space or choose another disk
 * @throws WanqError NO_SPACE where fewer than `needed` bytes are free
 */
export async function assertSpace(target: string, needed: number, what: string, hint: string): Promise<void> {
  const { bavail, bsize } = await statfs(await nearestExisting(target));
  const free = bavail * bsize;
  if (free > needed) return;
  throw new WanqError('NO_SPACE', `${what} needs ${megabytes(needed)}, and ${megabytes(free)} are free`, {
    hint: `free some space, choose another disk, or ${hint}`,
  });
}

/** The nearest folder at or above `target` that is there. */
export async function nearestExisting(target: string): Promise<string> {
  let folder = path.resolve(target);
  while (!(await exists(folder)) && path.dirname(folder) !== folder) folder = path.dirname(folder);
  return folder;
}

/** @throws WanqError USAGE where `target` lies inside `folder`, which is about to be copied into it */
export async function refuseInside(target: string, folder: string): Promise<void> {
  const [above, root] = await Promise.all([nearestExisting(target).then((found) => realpath(found)), realpath(folder)]);
  if (above !== root && !above.startsWith(root + path.sep)) return;
  throw new WanqError('USAGE', `${printable(target)} lies inside the pipeline ${printable(folder)}`, {
    hint: 'name an output beside it',
  });
}

/** @throws WanqError OUTPUT_EXISTS; USAGE for an empty path */
export async function refuseExisting(target: string): Promise<void> {
  if (target.trim() === '') throw new WanqError('USAGE', 'the output path is empty', { hint: 'name an output' });
  if (await exists(target)) {
    throw new WanqError('OUTPUT_EXISTS', `${printable(target)} exists already`, {
      hint: 'name another output or remove it first; wanq never overwrites',
    });
  }
}

async function syncFolder(folder: string): Promise<void> {
  // Windows flushes neither folders nor what is open for reading.
  if (process.platform === 'win32') return;
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const child = path.join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(child);
    else if (entry.isFile()) await syncFolder(child);
  }
  await syncFolder(folder);
}

/** Copies a file or folder, sharing blocks where the file system can; `link` makes one symbolic link instead. */
export async function copyTree(from: string, to: string, link: boolean): Promise<void> {
  if (link) {
    await symlink(path.resolve(from), to);
    return;
  }
  const info = await stat(from);
  if (info.isDirectory()) {
    await mkdir(to);
    for (const name of await readdir(from)) await copyTree(path.join(from, name), path.join(to, name), false);
  } else if (info.isFile()) {
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  }
}

/**
 * Bytes of all files below a path, following links.
 * @param without names directly in it that are not counted
 */
export async function treeSize(target: string, without: readonly string[] = []): Promise<number> {
  const info = await stat(target);
  if (!info.isDirectory()) return info.size;
  let total = 0;
  for (const name of await readdir(target)) {
    if (!without.includes(name)) total += await treeSize(path.join(target, name));
  }
  return total;
}
