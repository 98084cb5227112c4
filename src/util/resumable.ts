import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { assertWritable, exists, fillAndName, refuseExisting, withOutput } from './files.js';

/** Where the unfinished state of an output lies that can be gone on with. */
export function partialPath(target: string): string {
  return `${target}.partial`;
}

/** Folders in the partial folder of an output: what gets the output's name in the end, and what is kept until then. */
const [FILLED, KEPT] = ['output', 'journal'];

/**
 * As `writeFolderAtomic`, but what `fill` keeps stays in `<target>.partial` when it fails, or is killed, for the next call; nothing stays where it
 * keeps nothing.
 *
 * @param fill gets the folder to fill, which may hold what an earlier call wrote, and the folder to keep things in
 * @param finish gets the latter once the output has its name; it is removed then
 * @throws WanqError OUTPUT_EXISTS, also where the partial folder is somebody else's; LOCKED
 */
export async function writeFolderResumable<T>(
  target: string,
  fill: (folder: string, kept: string) => Promise<T>,
  finish?: (result: T) => Promise<void>,
): Promise<T> {
  const partial = partialPath(target);
  const [folder, kept] = [path.join(partial, FILLED), path.join(partial, KEPT)];
  if ((await exists(target)) && (await exists(kept)) && !(await exists(folder))) {
    // Whoever named it was killed before it removed the rest.
    await rm(partial, { recursive: true, force: true });
  }
  await refuseExisting(target);
  await assertWritable(target);
  return withOutput(target, async () => {
    await refuseStranger(partial);
    try {
      await mkdir(folder, { recursive: true });
      await mkdir(kept, { recursive: true });
      const result = await fillAndName(folder, target, (filling) => fill(filling, kept));
      await finish?.(result);
      await rm(partial, { recursive: true, force: true });
      return result;
    } catch (error) {
      const nothing = await readdir(kept).then(
        (names) => names.length === 0,
        // What cannot be looked at may be hours of work.
        (unread: NodeJS.ErrnoException) => unread.code === 'ENOENT',
      );
      if (nothing) await rm(partial, { recursive: true, force: true });
      throw error;
    }
  });
}

/** @throws WanqError OUTPUT_EXISTS for a partial folder that was not made here */
async function refuseStranger(partial: string): Promise<void> {
  if (!(await exists(partial))) return;
  const entries = await readdir(partial);
  if (entries.every((entry) => entry === FILLED || entry === KEPT)) return;
  throw new WanqError('OUTPUT_EXISTS', `${printable(partial)} is there, and is no unfinished output of wanq`, {
    hint: 'name another output',
  });
}
