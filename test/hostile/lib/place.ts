import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** What must never be printed, nor come into a file: the content of files that no command was given. */
export const SECRET = 'a-secret-of-somebody-else';

/**
 * Where a case is run: a working folder, a home and a folder for temporary files of its own, and beside them the files of somebody else, which
 * the hostile input wants.
 */
export class Place {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
    for (const name of ['work', 'home', 'tmp', 'outside']) mkdirSync(path.join(root, name), { recursive: true });
    writeFileSync(this.outside('secret'), `${SECRET}\n`);
  }

  /** A path below the working folder. */
  path(...parts: string[]): string {
    return path.join(this.root, 'work', ...parts);
  }

  /** A path among the files of somebody else. */
  outside(...parts: string[]): string {
    return path.join(this.root, 'outside', ...parts);
  }

  write(name: string, content: string | Uint8Array): void {
    mkdirSync(path.dirname(this.path(name)), { recursive: true });
    writeFileSync(this.path(name), content);
  }

  /** Everything in it by its path, with what would show a change. */
  snapshot(): Map<string, string> {
    const found = new Map<string, string>();
    look(this.root, '', found);
    return found;
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Larger files are told apart by their size and time. */
const HASHED = 2 ** 20;

function look(root: string, folder: string, found: Map<string, string>): void {
  // Bytes, since a name need not be text.
  for (const name of readdirSync(path.join(root, folder)).sort()) {
    const relative = path.join(folder, name);
    const full = path.join(root, relative);
    const info = lstatSync(full, { throwIfNoEntry: false });
    if (!info) continue;
    const kind = info.isFile() ? 'file' : info.isDirectory() ? 'folder' : info.isSymbolicLink() ? 'link' : 'other';
    const what = [kind, info.mode];
    if (kind === 'file') {
      what.push(info.size, info.mtimeMs, info.ino);
      if (info.size <= HASHED) what.push(createHash('sha256').update(readFileSync(full)).digest('hex'));
    }
    if (kind === 'link') what.push(readlinkSync(full));
    found.set(relative.replaceAll('\\', '/'), what.join(' '));
    if (kind === 'folder') look(root, relative, found);
  }
}

/** What came, went or changed between two snapshots, but for what is below `allowed` in the working folder. */
export function differences(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
  allowed: readonly string[] = [],
): string[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.flatMap((name) => {
    if (before.get(name) === after.get(name)) return [];
    if (allowed.some((output) => name === `work/${output}` || name.startsWith(`work/${output}/`))) return [];
    if (!after.has(name)) return [`${name} is gone`];
    return [`${name} ${before.has(name) ? 'was changed' : 'is new'}`];
  });
}
