import path from 'node:path';

/**
 * A short name for each path: its last part, with a number behind it where another has it, letters large and small alike.
 * @param fallbacks for paths that end in no name (`.`, `..`)
 * @param taken names that none may have
 */
export function uniqueNames(
  paths: readonly string[],
  fallbacks: readonly string[],
  taken: readonly string[] = RESERVED_NAMES,
): string[] {
  const used = new Set(taken.map((name) => name.toLowerCase()));
  return paths.map((of, i) => {
    const name = lastPart(of) ?? lastPart(fallbacks[i] ?? '') ?? 'model';
    let unique = name;
    for (let n = 2; used.has(unique.toLowerCase()); n++) unique = `${name}-${n}`;
    used.add(unique.toLowerCase());
    return unique;
  });
}

/** Files of a comparison's folder, in which reports may lie too. */
export const COMPARISON_FILES = { json: 'compare.json', markdown: 'compare.md', html: 'compare.html' } as const;

const RESERVED_NAMES: readonly string[] = Object.values(COMPARISON_FILES);

/** Results may come from another system: both kinds of separator count. */
function lastPart(of: string): string | undefined {
  const name = path.win32.basename(of);
  return /^\.*$/.test(name) ? undefined : name;
}
