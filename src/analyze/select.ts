import { distance } from 'fastest-levenshtein';
import picomatch from 'picomatch';
import { printable, WanqError } from '../errors.js';
import type { Linear } from './linears.js';
import { blockOf, roleFamily } from './roles.js';

/**
 * The linears that globs name. A glob is held against the role (`blocks.3.ffn.down`), the role with the block counted from the end
 * (`blocks.-1.ffn.down` is the last block's) and the node's name. `*` does not stop at dots.
 *
 * @throws WanqError PATTERN_UNMATCHED for a glob that names nothing, with the nearest names
 */
export function selectLinears(linears: readonly Linear[], globs: readonly string[]): Set<Linear> {
  const blocks = blockCount(linears);
  const selected = new Set<Linear>();
  for (const glob of globs) {
    // picomatch throws on an empty glob, which names nothing; a leading ! would select by whichever name is not excluded.
    const matches = glob === '' ? () => false : picomatch(glob, { dot: true, nonegate: true });
    const hits = linears.filter((linear) => namesOf(linear, blocks).some((name) => matches(name)));
    if (hits.length === 0) {
      const nearest = nearestNames(glob, linears);
      throw new WanqError('PATTERN_UNMATCHED', `no linear matches "${printable(glob)}"`, {
        hint: `the nearest are ${nearest.map((name) => printable(name)).join(', ')}; \`wanq inspect\` lists all roles`,
      });
    }
    for (const linear of hits) selected.add(linear);
  }
  return selected;
}

function namesOf({ role, node }: Linear, blocks: number): string[] {
  const block = blockOf(role);
  const fromEnd = block === undefined ? [] : [role.replace(/^blocks\.\d+/, `blocks.${block - blocks}`)];
  return [role, ...fromEnd, node.name];
}

/** Transformer blocks the roles speak of. */
export function blockCount(linears: readonly Linear[]): number {
  return Math.max(-1, ...linears.map(({ role }) => blockOf(role) ?? -1)) + 1;
}

/** Roles with the block left open, by edit distance to the glob or to as much of their end as it spells out. */
function nearestNames(glob: string, linears: readonly Linear[]): string[] {
  const literal = glob.replace(/[*?]/g, '');
  const far = (name: string): number => Math.min(distance(glob, name), distance(literal, name.slice(-literal.length)));
  return [...new Set(linears.map(({ role }) => roleFamily(role)))]
    .map((name) => ({ name, far: far(name) }))
    .sort((a, b) => a.far - b.far)
    .slice(0, 3)
    .map(({ name }) => name);
}
