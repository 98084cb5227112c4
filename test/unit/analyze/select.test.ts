import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { blockCount, selectLinears } from '../../../src/analyze/select.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { expectRefusal, thrownBy } from '../helpers/errors.js';
import { graph, node } from '../helpers/graphs.js';

const PARTS = ['self_attn.q', 'cross_attn.k', 'ffn.0', 'ffn.2'];
const names = [
  'patch_embedding',
  ...[0, 1, 2, 10].flatMap((block) => PARTS.map((part) => `blocks.${block}.${part}`)),
  'head.head',
];

const linears = findLinears(
  graph({
    nodes: names.map((name, i) => node('MatMul', ['x', `${name}.weight`], `y${i}`, [], { name: `/layer/${i}` })),
    initializers: names.map((name) => Tensor.float32(`${name}.weight`, [1, 1], [1])),
    inputs: ['x'],
  }),
);

const select = (...globs: string[]): string[] => [...selectLinears(linears, globs)].map(({ role }) => role);

describe('selectLinears', () => {
  it.each<[string[], string[]]>([
    [['proj_out'], ['proj_out']],
    [['blocks.1.ffn.down'], ['blocks.1.ffn.down']],
    [['blocks.1.ffn.*'], ['blocks.1.ffn.up', 'blocks.1.ffn.down']],
    [['blocks.*.attn1.q'], [0, 1, 2, 10].map((n) => `blocks.${n}.attn1.q`)],
    [['blocks.{0,2}.ffn.up'], ['blocks.0.ffn.up', 'blocks.2.ffn.up']],
    [['blocks.0.{attn1.q,ffn.down}'], ['blocks.0.attn1.q', 'blocks.0.ffn.down']],
    [['blocks.-1.ffn.down'], ['blocks.10.ffn.down']],
    [['blocks.{-9,-11}.ffn.up'], ['blocks.2.ffn.up', 'blocks.0.ffn.up']],
    [['blocks.1?.ffn.up'], ['blocks.10.ffn.up']],
    [['/layer/0'], ['patch_embedding']],
    [['/layer/{0,17}'], ['patch_embedding', 'proj_out']],
    [
      ['proj_out', 'patch_embedding', 'proj_out'],
      ['proj_out', 'patch_embedding'],
    ],
    [[], []],
  ])('%j names %j', (globs, expected) => {
    expect(select(...globs).sort()).toEqual(expected.sort());
  });

  it('lets * run over dots', () => {
    const inBlocks = linears.map(({ role }) => role).filter((role) => role.startsWith('blocks.'));
    expect(select('blocks.*')).toEqual(inBlocks);
    expect(select('*.ffn.*')).toEqual(inBlocks.filter((role) => role.includes('.ffn.')));
    expect(select('*')).toHaveLength(linears.length);
  });

  it('names the nearest roles for a glob that matches nothing', () => {
    const error = thrownBy(() => select('blocks.1.ffn.dwn'));
    expect(error.code).toBe('PATTERN_UNMATCHED');
    expect(error.message).toContain('"blocks.1.ffn.dwn"');
    expect(error.hint).toContain('ffn.down');
    expect(thrownBy(() => select('proj_outt')).hint).toMatch(/nearest are proj_out,/);
  });

  it('refuses a glob that matches nothing beside one that matches', () => {
    expectRefusal(() => select('proj_out', 'blocks.3.ffn.up'), 'PATTERN_UNMATCHED');
    expectRefusal(() => select('blocks.-12.ffn.up'), 'PATTERN_UNMATCHED');
    expectRefusal(() => select('blocks.[0'), 'PATTERN_UNMATCHED');
  });

  it('does not negate: a role has several names, and one of them would always be left', () => {
    expectRefusal(() => select('!blocks.0.ffn.up'), 'PATTERN_UNMATCHED');
  });

  it('refuses an empty glob', () => {
    expectRefusal(() => select(''), 'PATTERN_UNMATCHED');
  });
});

describe('blockCount', () => {
  it('is one more than the highest block', () => {
    expect(blockCount(linears)).toBe(11);
    expect(blockCount([])).toBe(0);
    expect(blockCount(linears.slice(0, 1))).toBe(0);
  });
});
