import { randomBytes } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';

/** A sibling name nobody else uses, so that a rename onto `target` stays on one file system. */
export function temporarySibling(target: string): string {
  const { dir, base } = path.parse(path.resolve(target));
  return path.join(dir, `.${base}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
}

/**
 * Removes what {@link temporarySibling} named for `target` and processes that were killed left there. Only for who holds the target's lock: nobody
 * else is writing then.
 */
export async function removeTemporarySiblings(target: string): Promise<void> {
  const { dir, base } = path.parse(path.resolve(target));
  for (const name of await readdir(dir).catch((): string[] => [])) {
    if (!name.startsWith(`.${base}.`) || !/^\d+-[0-9a-f]{8}\.tmp$/.test(name.slice(base.length + 2))) continue;
    await rm(path.join(dir, name), { recursive: true, force: true });
  }
}
