import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fromSystemError, WanqError } from '../../errors.js';
import { assertWritable } from '../../util/files.js';
import type { Check, Seen } from '../finding.js';

const LITTLE = 1e9;

async function lookAt(what: string, folder: string, needed: boolean): Promise<Seen> {
  const where = `${what} ${folder}`;
  try {
    await assertWritable(path.join(folder, 'wanq-doctor'));
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    const seen = `${where}: writable, ${(free / 1e9).toFixed(1)} GB free`;
    return free < LITTLE ? { status: 'note', seen, mend: 'free some space' } : { status: 'ok', seen };
  } catch (raw) {
    const error = fromSystemError(raw, folder);
    if (!(error instanceof WanqError)) throw error;
    return {
      status: needed ? 'problem' : 'note',
      seen: `${where}: ${error.message}`,
      mend: needed
        ? 'name another in TMPDIR (TEMP on Windows)'
        : 'name outputs elsewhere (-o), or change its permissions',
    };
  }
}

export const foldersCheck: Check = {
  name: 'folders',
  look: async ({ cwd }) => [
    await lookAt('temporary folder', tmpdir(), true),
    await lookAt('current folder', cwd, false),
  ],
};
