import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Lays a folder out as Hugging Face's cache does: files in `blobs` by their hashes, and a checkout of links to them.
 * @returns the checkout
 */
export async function intoCache(folder: string, hub: string): Promise<string> {
  const repository = path.join(hub, 'models--someone--wan');
  const snapshot = path.join(repository, 'snapshots', '0123abc');
  const blobs = path.join(repository, 'blobs');
  await mkdir(blobs, { recursive: true });
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const bytes = await readFile(file);
    const blob = path.join(blobs, createHash('sha256').update(bytes).digest('hex'));
    await writeFile(blob, bytes);
    const link = path.join(snapshot, path.relative(folder, file));
    await mkdir(path.dirname(link), { recursive: true });
    await symlink(path.relative(path.dirname(link), blob), link);
  }
  return snapshot;
}
