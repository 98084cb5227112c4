import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that wanq is installed in. */
export const PACKAGE_ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Manifest {
  readonly engines: { readonly node: string };
  readonly dependencies: Readonly<Record<string, string>>;
  readonly files: readonly string[];
}

/** wanq's own package.json. */
export function manifest(): Manifest {
  return JSON.parse(readFileSync(path.join(PACKAGE_ROOT, 'package.json'), 'utf8')) as Manifest;
}
