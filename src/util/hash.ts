import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError } from '../errors.js';

/** SHA-256 of a text or of bytes, hexadecimal. */
export function sha256(of: string | Uint8Array): string {
  return createHash('sha256').update(of).digest('hex');
}

/** SHA-256 of a file, or of all files in a folder, links to files included. @throws WanqError NOT_FOUND, NOT_READABLE */
export async function contentHash(target: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    const entries = await readdir(target, { recursive: true, withFileTypes: true }).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOTDIR') return undefined;
        throw error;
      },
    );
    const files: string[] = [];
    for (const entry of entries ?? []) {
      const file = path.join(entry.parentPath, entry.name);
      // In a Hugging Face cache all are links.
      const linked = entry.isSymbolicLink() ? await stat(file).catch(() => undefined) : undefined;
      if (entry.isFile() || linked?.isFile()) files.push(file);
    }
    const names = entries && files.map((file) => path.relative(target, file)).sort();
    for (const name of names ?? [undefined]) {
      if (name !== undefined) hash.update(`${name}\0`);
      for await (const chunk of createReadStream(name === undefined ? target : path.join(target, name))) {
        hash.update(chunk as Uint8Array);
      }
    }
  } catch (error) {
    throw fromSystemError(error, target);
  }
  return hash.digest('hex');
}
