import type { Check, Seen } from '../finding.js';
import { manifest } from '../package.js';

/** @param wanted of package.json, `>=20.12` */
export function judgeNode(version: string, wanted: string): Seen {
  const least = wanted.match(/^>=(\d+(?:\.\d+)*)$/)?.[1];
  if (least === undefined) return { status: 'note', seen: `Node ${version}; wanq asks for ${wanted}` };
  const numbers = (text: string): number[] => text.split('-')[0]?.split('.').map(Number) ?? [];
  const [have, need] = [numbers(version), numbers(least)];
  const place = need.findIndex((part, index) => part !== (have[index] ?? 0));
  if (place < 0 || (have[place] ?? 0) > (need[place] as number)) return { status: 'ok', seen: `Node ${version}` };
  return { status: 'problem', seen: `Node ${version}`, mend: `install Node ${least} or later` };
}

export const nodeCheck: Check = {
  name: 'Node',
  look: async () => [judgeNode(process.versions.node, manifest().engines.node)],
};
