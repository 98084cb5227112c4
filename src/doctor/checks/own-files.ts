import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Check, Seen } from '../finding.js';
import { manifest, PACKAGE_ROOT } from '../package.js';

/** Files that nothing imports: they are started, or read. */
const ENTRIES = [
  'dist/cli/main.js',
  'dist/index.js',
  'dist/runtime/worker.js',
  'dist/runtime/watchdog.js',
  'dist/onnx/convert/worker.js',
];
const DATA = ['bin/wanq.js', 'prompts/calibration.txt', 'prompts/eval.txt'];

/** Relative specifiers of static and dynamic imports, and of workers. */
const SPECIFIERS = /(?:\bfrom\s*|\bimport\s*\(?\s*|new URL\(\s*)['"](\.{1,2}\/[^'"]+)['"]/g;

/** @returns files below `root` that wanq needs and that are not there, relative to it */
export function missingFiles(root: string): string[] {
  const missing = DATA.filter((file) => !existsSync(path.join(root, file)));
  const seen = new Set<string>();
  const queue = [...ENTRIES];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    const place = path.join(root, file);
    if (!existsSync(place)) {
      missing.push(file);
      continue;
    }
    if (!file.endsWith('.js')) continue;
    for (const [, specifier] of readFileSync(place, 'utf8').matchAll(SPECIFIERS)) {
      queue.push(path.posix.join(path.posix.dirname(file), specifier as string));
    }
  }
  return missing.sort();
}

/** @returns dependencies that are not to be found from `root` */
export function missingPackages(root: string, names: readonly string[]): string[] {
  const folders: string[] = [];
  for (let folder = path.resolve(root); ; folder = path.dirname(folder)) {
    folders.push(path.join(folder, 'node_modules'));
    if (path.dirname(folder) === folder) break;
  }
  return names.filter((name) => !folders.some((folder) => existsSync(path.join(folder, name, 'package.json'))));
}

const NAMED = 4;

function finding(what: string, missing: readonly string[], count: string): Seen {
  if (missing.length === 0) return { status: 'ok', seen: count };
  const more = missing.length > NAMED ? ` and ${missing.length - NAMED} more` : '';
  return {
    status: 'problem',
    seen: `${what} missing: ${missing.slice(0, NAMED).join(', ')}${more}`,
    mend: existsSync(path.join(PACKAGE_ROOT, 'tsconfig.json')) ? 'run `npm ci && npm run build`' : 'install wanq again',
  };
}

export const ownFilesCheck: Check = {
  name: 'installation',
  look: async () => {
    const { dependencies } = manifest();
    const names = Object.keys(dependencies);
    return [
      finding('files', missingFiles(PACKAGE_ROOT), `complete, in ${PACKAGE_ROOT}`),
      finding('packages', missingPackages(PACKAGE_ROOT, names), `${names.length} packages that it needs are there`),
    ];
  },
};
