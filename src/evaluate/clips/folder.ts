import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError, printable } from '../../errors.js';
import { invalid } from './source.js';

export interface Entry {
  readonly name: string;
  readonly file: string;
  readonly isFolder: boolean;
  /** In lower case, with its dot; empty for a folder. */
  readonly extension: string;
  /** The name without extension. */
  readonly stem: string;
}

/**
 * What lies in a folder of clips, by name in the order of code points: folders, and files with one of `extensions`. Hidden ones and all others
 * are left out. Links are followed within `root`.
 *
 * @param root real path of the folder that was named
 * @throws WanqError CLIPS_INVALID for a link that leads out of `root`; NOT_FOUND for one that leads nowhere
 */
export async function listFolder(folder: string, root: string, extensions: ReadonlySet<string>): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const dirent of await readdir(folder, { withFileTypes: true })) {
    const { name } = dirent;
    const extension = path.extname(name).toLowerCase();
    const known = extensions.has(extension);
    if (name.startsWith('.') || (dirent.isFile() && !known)) continue;
    const file = path.join(folder, name);
    const kind = await kindOf(dirent, file);
    if (kind === 'folder') entries.push({ name, file, isFolder: true, extension: '', stem: name });
    else if (kind === 'file' && known) {
      entries.push({ name, file, isFolder: false, extension, stem: name.slice(0, -extension.length) });
    } else continue;
    if (dirent.isSymbolicLink() && !(await realpath(file)).startsWith(root + path.sep)) {
      throw invalid(`${printable(file)} is a link that leads out of the folder`, 'copy what it leads to');
    }
  }
  return entries.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
}

async function kindOf(dirent: Dirent, file: string): Promise<'file' | 'folder' | 'other'> {
  const info = dirent.isSymbolicLink()
    ? await stat(file).catch((error) => {
        throw fromSystemError(error, file);
      })
    : dirent;
  return info.isDirectory() ? 'folder' : info.isFile() ? 'file' : 'other';
}
