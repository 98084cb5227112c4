import type { Node } from '../../ir/graph.js';
import type { Attention } from './attention.js';
import { walkBack } from './flow.js';
import { startsAtFirstToken } from './image.js';
import type { Survey, UnnamedLinear } from './survey.js';

export type UnitKind = 'attn1' | 'attn2' | 'ffn';

export interface Part {
  /** The end of the role: `q`, `down`. */
  readonly name: string;
  readonly linear: UnnamedLinear;
  /** What it was told by. */
  readonly evidence: string;
  /** Whether all that is expected of the part was found. */
  readonly sure: boolean;
}

/** One of a block's parts that add to the residual stream. */
export interface Unit {
  readonly kind: UnitKind;
  readonly parts: readonly Part[];
  /** The value by which the residual stream enters. */
  readonly entry: string;
  /** The sources by which it leaves. */
  readonly exit: bigint;
}

/** Whether the keys come of other graph inputs than the queries. */
export function isCross({ query, key }: Attention, survey: Survey): boolean {
  return survey.of(key).inputs !== 0n && survey.of(key).inputs !== survey.of(query).inputs;
}

/** Attentions whose queries depend on the latents, each with the linears around it. */
export function attentionUnits(survey: Survey, latents: bigint): Unit[] {
  // An image's keys and values are attended to with the same queries as the text's.
  const groups = new Map<Node, [Attention, ...Attention[]]>();
  for (const attention of survey.attentions) {
    if ((survey.of(attention.query).inputs & latents) === 0n) continue;
    const key = survey.makerOf(attention.query)?.node ?? attention.node;
    const group = groups.get(key);
    if (group) group.push(attention);
    else groups.set(key, [attention]);
  }
  return [...groups.values()].map((group) => attentionUnit(survey, group));
}

function attentionUnit(survey: Survey, group: readonly [Attention, ...Attention[]]): Unit {
  const [{ query }] = group;
  const cross = isCross(group[0], survey);
  const what = cross ? 'cross attention' : 'self-attention';
  const results = group.reduce((bits, { node }) => bits | survey.bitOf(node), 0n);
  const q = survey.makerOf(query);
  const readers = survey.readersOf(results);
  const out = readers.length === 1 ? readers[0] : undefined;
  const operands = [
    ...part('q', q, `its output is the rows of a ${what}'s scores`),
    ...keysAndValues(survey, group).flatMap(({ attention: { key, value }, prefix, of }) => [
      ...part(`${prefix}k`, survey.makerOf(key), `its output is the columns of a ${what}'s scores${of}`),
      ...part(`${prefix}v`, survey.makerOf(value), `its output is what a ${what}'s softmax weighs${of}`),
    ]),
  ];
  return {
    kind: cross ? 'attn2' : 'attn1',
    parts: [...joined(operands), ...part('out', out, `it reads the result of a ${what} and nothing else`)],
    entry: q?.activation ?? query,
    exit: out ? survey.bitOf(out.node) : results,
  };
}

/** A linear that makes several operands has a name of them all, as diffusers calls its fused projections: `qkv`, `kv`, `add_kv`. */
function joined(operands: readonly Part[]): Part[] {
  const parts = new Map<UnnamedLinear, Part>();
  for (const operand of operands) {
    const first = parts.get(operand.linear);
    if (!first) parts.set(operand.linear, operand);
    else {
      const name = first.name + operand.name.replace('add_', '');
      const evidence = operand.evidence.replace('its output is', `${first.evidence}, and`);
      parts.set(operand.linear, { ...first, name, evidence });
    }
  }
  return [...parts.values()];
}

function keysAndValues(
  survey: Survey,
  group: readonly Attention[],
): { attention: Attention; prefix: '' | 'add_'; of: string }[] {
  if (group.length === 1) return group.map((attention) => ({ attention, prefix: '', of: '' }));
  const isImage = group.map(({ key }) => {
    const maker = survey.makerOf(key);
    return maker !== undefined && startsAtFirstToken(maker.activation, survey);
  });
  // The image's tokens stand before the text's.
  if (group.length !== 2 || isImage[0] === isImage[1]) return [];
  return group.map((attention, i) =>
    isImage[i]
      ? { attention, prefix: 'add_', of: ', for the first of two parts of the condition' }
      : { attention, prefix: '', of: ', for the second of two parts of the condition' },
  );
}

/** Pairs of linears of reverse shapes of which the second reads the first alone, in the way of the latents. */
export function feedForwardUnits(survey: Survey, latents: bigint): Unit[] {
  return survey.linears.flatMap((up) => {
    if ((survey.of(up.activation).inputs & latents) === 0n) return [];
    const down = survey.successorOf(up);
    if (!down || down.inFeatures !== up.outFeatures || down.outFeatures !== up.inFeatures) return [];
    const sure = hasGeluBetween(up, down, survey);
    const through = sure ? ' through GELU' : '';
    const parts = [
      { name: 'up', linear: up, evidence: `its output goes${through} into a linear of the reverse shape`, sure },
      {
        name: 'down',
        linear: down,
        evidence: `it reads a linear of the reverse shape${through} and nothing else`,
        sure,
      },
    ];
    return [{ kind: 'ffn', parts, entry: up.activation, exit: survey.bitOf(down.node) }];
  });
}

/** GELU, fused with a bias or in parts. */
const GELU = new Set(['Gelu', 'BiasGelu', 'FastGelu', 'QuickGelu', 'Erf', 'Tanh']);

function hasGeluBetween(up: UnnamedLinear, down: UnnamedLinear, { index }: Survey): boolean {
  let found = false;
  walkBack(down.activation, index, 64, (node) => {
    if (node === up.node) return false;
    found ||= GELU.has(node.opType);
    return !found;
  });
  return found;
}

function part(name: string, linear: UnnamedLinear | undefined, evidence: string): Part[] {
  return linear ? [{ name, linear, evidence, sure: true }] : [];
}
