import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';

/** Calls of the file system that name a path first; of those that name two, the second is where something appears. */
const ONE_PATH = [
  'open',
  'readFile',
  'writeFile',
  'mkdir',
  'rm',
  'rmdir',
  'unlink',
  'readdir',
  'opendir',
  'truncate',
] as const;
const TWO_PATHS = ['rename', 'copyFile', 'symlink', 'link', 'cp'] as const;

/**
 * Notes every file that wanq opens, makes or takes away outside of a folder while it is looked at, by standing between it and Node's functions.
 */
export class FileGuard {
  readonly #outside: string[] = [];
  #root: string | undefined;

  constructor() {
    const functions = promises as unknown as Record<string, (...args: unknown[]) => unknown>;
    for (const name of [...ONE_PATH, ...TWO_PATHS]) {
      const original = functions[name] as (...args: unknown[]) => unknown;
      functions[name] = (...args: unknown[]) => {
        const paths = (TWO_PATHS as readonly string[]).includes(name) ? args.slice(0, 2) : args.slice(0, 1);
        for (const one of paths) this.#note(name, one);
        return original(...args);
      };
    }
    syncBuiltinESMExports();
  }

  #note(name: string, given: unknown): void {
    if (this.#root === undefined || typeof given !== 'string') return;
    const resolved = path.resolve(given);
    if (resolved !== this.#root && !resolved.startsWith(this.#root + path.sep))
      this.#outside.push(`${name} ${resolved}`);
  }

  /** @returns what came of the work, and what it did outside of the folder */
  async watch<T>(root: string, work: () => Promise<T>): Promise<{ result: T; outside: readonly string[] }> {
    this.#root = root;
    this.#outside.length = 0;
    try {
      return { result: await work(), outside: [...this.#outside] };
    } finally {
      this.#root = undefined;
    }
  }
}
