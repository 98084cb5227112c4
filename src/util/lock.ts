import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { identityFrom, isGone, ownIdentity } from './process-identity.js';
import { temporarySibling } from './temporary.js';

/** Attempts to take a lock whose holder went away meanwhile. */
const ATTEMPTS = 5;

/** What a lock holds that cannot be read: it is being written, or its writer was killed there. A minute is long for a line of text. */
const UNREADABLE_MS = 60_000;

const MAX_LOCK_BYTES = 4096;

const WITHOUT_LINKS: readonly string[] = ['EPERM', 'ENOTSUP', 'ENOSYS', 'EMLINK'];

/** The file that says who is writing `target`. */
export function lockPath(target: string): string {
  const { dir, base } = path.parse(path.resolve(target));
  return path.join(dir, `.${base}.lock`);
}

/**
 * Keeps other processes of wanq from writing `target` while `work` goes on. A lock whose process is gone is taken over.
 *
 * A file with the process's number, and no lock of the file system: those lie on network file systems, and Node has none.
 *
 * @param target its folder must be there
 * @throws WanqError LOCKED; what `work` throws
 */
export async function withLock<T>(target: string, work: () => Promise<T>): Promise<T> {
  const file = lockPath(target);
  const own = JSON.stringify(ownIdentity());
  await acquire(file, own, target);
  try {
    return await work();
  } finally {
    // What cannot be read is taken for what it was.
    if ((await textOf(file).catch(() => own)) === own) await rm(file, { force: true });
  }
}

async function acquire(file: string, own: string, target: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (await create(file, own, target)) return;
    const held = await textOf(file);
    if (held === undefined) continue;
    const holder = await holderOf(file, held);
    if (holder !== 'gone') {
      throw new WanqError('LOCKED', `${printable(target)} is being written by ${holder}`, {
        hint: `wait for it, name another output, or remove ${printable(file)} if that process is gone`,
      });
    }
    await setAside(file, held, target);
  }
  throw new WanqError('LOCKED', `${printable(target)}: its lock ${printable(file)} changes hands all the time`, {
    hint: 'name another output for each process',
  });
}

/** Makes the lock with its content in one step. @returns false where there is one */
async function create(file: string, own: string, target: string): Promise<boolean> {
  // Named for the target: whoever holds that removes it where this process is killed here.
  const temporary = temporarySibling(target);
  const handle = await open(temporary, 'wx');
  try {
    try {
      await handle.writeFile(own);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await link(temporary, file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ENOENT: whoever has the lock by now removed what it took for a leftover.
    if (code === 'EEXIST' || code === 'ENOENT') return false;
    // Not every file system has hard links.
    if (code !== undefined && WITHOUT_LINKS.includes(code)) return createPlainly(file, own);
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

async function createPlainly(file: string, own: string): Promise<boolean> {
  try {
    const handle = await open(file, 'wx');
    await handle.writeFile(own).finally(() => handle.close());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** @returns undefined where there is no lock */
async function textOf(file: string): Promise<string | undefined> {
  try {
    const { size } = await stat(file);
    return size > MAX_LOCK_BYTES ? '' : await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** @returns who holds a lock, in words, or `gone` */
async function holderOf(file: string, held: string): Promise<string> {
  const identity = identityFrom(held);
  if (identity) {
    return isGone(identity) ? 'gone' : `process ${identity.pid} on ${printable(identity.host, 80)}`;
  }
  const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: 0 }));
  return Math.abs(Date.now() - mtimeMs) > UNREADABLE_MS ? 'gone' : 'another process';
}

/** Takes a dead process's lock away, and none that another process put in its place meanwhile. */
async function setAside(file: string, held: string, target: string): Promise<void> {
  const aside = temporarySibling(target);
  try {
    await rename(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if ((await textOf(aside)) !== held) await link(aside, file).catch(() => {});
  await rm(aside, { force: true });
}
