import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type Boundary, blockBoundaries } from '../../../src/analyze/boundaries.js';
import { isConstant } from '../../../src/analyze/constants.js';
import { findLinears } from '../../../src/analyze/linears.js';
import { blockOf } from '../../../src/analyze/roles.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { valuesRead } from '../../../src/ir/traverse.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { FULL_SHAPE, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { graph, node, value } from '../helpers/graphs.js';

/** What crosses a position, found value by value. */
function crossingAt({ nodes, outputs }: Graph, position: number): Set<string> {
  const before = nodes.slice(0, position).filter((each) => !isConstant(each));
  const made = new Set(before.flatMap((each) => each.outputs).filter((name) => name !== ''));
  const read = new Set(nodes.slice(position).flatMap((each) => [...valuesRead(each)]));
  for (const { name } of outputs) read.add(name);
  return new Set([...made].filter((name) => read.has(name)));
}

/** Holds cuts against what they are for: before the first block, between any two, and after the last. */
function expectBlocksApart(of: Graph, cuts: readonly Boundary[]): void {
  const positions = new Map(of.nodes.map((each, i) => [each, i]));
  for (const { node: linear, role } of findLinears(of)) {
    const block = blockOf(role);
    const segment = cuts.filter(({ position }) => position <= (positions.get(linear) as number)).length;
    if (block === undefined) expect([0, cuts.length], role).toContain(segment);
    else expect(segment, role).toBe(block + 1);
  }
  const typed = new Set(of.valueInfo.filter(({ dtype }) => dtype !== null).map(({ name }) => name));
  for (const { position, crossing } of cuts) {
    expect(new Set(crossing)).toEqual(crossingAt(of, position));
    expect(crossing.filter((name) => !typed.has(name))).toEqual([]);
  }
}

function decoded(file: string): Graph {
  const bytes = readFileSync(file);
  return decodeModel(file.endsWith('.gz') ? gunzipSync(bytes) : bytes).graph;
}

describe.each([
  ['the micro transformer', path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'), 6],
  ['two blocks of the 5B', path.join(FULL_SHAPE, '2-blocks-fp32', 'model.onnx.gz'), 2],
  ['the 5B', path.join(FULL_SHAPE, '5b-fp32', 'model.onnx.gz'), 30],
])('the blocks of %s', (_, file, blocks) => {
  const of = decoded(file);
  const cuts = blockBoundaries(of);

  it('are cut apart where typed values cross, one cut more than there are blocks', () => {
    expect(cuts).toHaveLength(blocks + 1);
    expectBlocksApart(of, cuts);
  });

  it('hand on one value of their own each, the hidden states, which goes no further than the next block', () => {
    const made = new Map(of.nodes.flatMap(({ outputs }, i) => outputs.map((name) => [name, i] as const)));
    for (const [i, { crossing }] of cuts.entries()) {
      // Before the first cut, and in the first block, what all blocks share is made as well.
      if (i < 2) continue;
      const previous = (cuts[i - 1] as Boundary).position;
      const own = crossing.filter((name) => (made.get(name) as number) >= previous);
      expect(own).toHaveLength(1);
      expect(cuts[i + 1]?.crossing ?? []).not.toContain(own[0]);
    }
  });

  it('are cut at the narrowest place between them', () => {
    const positions = new Map(of.nodes.map((each, i) => [each, i]));
    const typed = new Set(of.valueInfo.map(({ name }) => name));
    const places = findLinears(of).flatMap(({ node: linear, role }) => {
      const block = blockOf(role);
      return block === undefined ? [] : [{ block, position: positions.get(linear) as number }];
    });
    // Two cuts of each graph: every position between two blocks is looked at.
    for (const block of [1, blocks - 1]) {
      const from = Math.max(...places.filter((place) => place.block < block).map(({ position }) => position)) + 1;
      const to = Math.min(...places.filter((place) => place.block >= block).map(({ position }) => position));
      const cut = cuts[block] as Boundary;
      expect(cut.position).toBeGreaterThanOrEqual(from);
      expect(cut.position).toBeLessThanOrEqual(to);
      for (let position = from; position <= to; position++) {
        const names = crossingAt(of, position);
        if ([...names].every((name) => typed.has(name))) {
          expect(names.size).toBeGreaterThanOrEqual(cut.crossing.length);
        }
      }
    }
  });
});

const weight = (role: string): Tensor => Tensor.float32(`${role}.weight`, [2, 2], [1, 2, 3, 4]);

/** A linear named after what it makes. */
const linear = (role: string, input: string, output: string): Node => node('MatMul', [input, `${role}.weight`], output);

const up = (block: number): string => `blocks.${block}.ffn.0`;
const down = (block: number): string => `blocks.${block}.ffn.2`;

interface Shape {
  readonly nodes: Node[];
  readonly outputs?: string[];
  /** Values without a type. */
  readonly untyped?: string[];
}

/** A graph of the input `x`, with a weight for whatever linear asks for one, in which every value is typed. */
function made({ nodes, outputs = [nodes.at(-1)?.outputs[0] ?? ''], untyped = [] }: Shape): Graph {
  const roles = new Set(nodes.flatMap(({ inputs }) => inputs.filter((name) => name.endsWith('.weight'))));
  const built = graph({
    nodes,
    initializers: [...roles].map((name) => weight(name.replace(/\.weight$/, ''))),
    inputs: ['x'],
    outputs,
  });
  const values = nodes.flatMap((each) => each.outputs);
  built.valueInfo = values.map((name) => ({ ...value(name), dtype: untyped.includes(name) ? null : 'float32' }));
  return built;
}

/** A block of two linears with a value between. */
const block = (n: number, input: string, output: string): Node[] => [
  linear(up(n), input, `inner${n}`),
  node('Relu', [`inner${n}`], `relu${n}`),
  linear(down(n), `relu${n}`, output),
];

const patch = linear('patch_embedding', 'x', 'h0');
const head = (input: string): Node => linear('proj_out', input, 'y');

describe('blockBoundaries', () => {
  it('cuts before the first block, between blocks and after the last', () => {
    const of = made({ nodes: [patch, ...block(0, 'h0', 'h1'), ...block(1, 'h1', 'h2'), head('h2')] });
    expect(blockBoundaries(of)).toEqual([
      { position: 1, crossing: ['h0'] },
      { position: 4, crossing: ['h1'] },
      { position: 7, crossing: ['h2'] },
    ]);
  });

  it('cuts at the first of the places that the fewest values cross', () => {
    const of = made({
      nodes: [
        patch,
        ...block(0, 'h0', 'a'),
        node('Sigmoid', ['a'], 'gate'),
        node('Mul', ['a', 'gate'], 'b'),
        node('Abs', ['b'], 'c'),
        ...block(1, 'c', 'h2'),
        head('h2'),
      ],
    });
    expect(blockBoundaries(of)[1]).toEqual({ position: 4, crossing: ['a'] });
  });

  it('passes over places that an untyped value crosses, even where fewer values do', () => {
    const nodes = [
      patch,
      ...block(0, 'h0', 'a'),
      node('Sigmoid', ['a'], 'gate'),
      node('Mul', ['a', 'gate'], 'b'),
      ...block(1, 'b', 'h2'),
      head('h2'),
    ];
    expect(blockBoundaries(made({ nodes, untyped: ['b'] }))[1]).toEqual({ position: 4, crossing: ['a'] });
    const split = [patch, ...block(0, 'h0', 'a'), node('Abs', ['a'], 'b'), ...block(1, 'b', 'h2'), head('h2')];
    expect(blockBoundaries(made({ nodes: split, untyped: ['a'] }))[1]).toEqual({ position: 5, crossing: ['b'] });
  });

  it('takes what several blocks read across every cut until its last reader', () => {
    const of = made({
      nodes: [
        node('Neg', ['x'], 'mask'),
        patch,
        ...block(0, 'h0', 'h1'),
        node('Add', ['h1', 'mask'], 'm1'),
        ...block(1, 'm1', 'h2'),
        head('h2'),
      ],
    });
    expect(blockBoundaries(of).map(({ crossing }) => crossing)).toEqual([['mask', 'h0'], ['m1'], ['h2']]);
  });

  it('lets constants and graph inputs cross for nothing', () => {
    const of = made({
      nodes: [
        node('Constant', [], 'two', [{ name: 'value_float', type: 'float', value: 2 }]),
        patch,
        ...block(0, 'h0', 'h1'),
        node('Mul', ['h1', 'two'], 'm1'),
        node('Add', ['m1', 'x'], 'n1'),
        ...block(1, 'n1', 'h2'),
        head('h2'),
      ],
      untyped: ['two'],
    });
    expect(blockBoundaries(of).map(({ crossing }) => crossing)).toEqual([['h0'], ['h1'], ['h2']]);
  });

  it('sees what a subgraph captures', () => {
    const branch = graph({ nodes: [node('Neg', ['h0'], 'negated')], outputs: ['negated'] });
    const of = made({
      nodes: [
        patch,
        ...block(0, 'h0', 'h1'),
        node('If', ['h1'], 'chosen', [
          { name: 'then_branch', type: 'graph', value: branch },
          { name: 'else_branch', type: 'graph', value: branch },
        ]),
        ...block(1, 'chosen', 'h2'),
        head('h2'),
      ],
    });
    const [, between] = blockBoundaries(of);
    expect(between).toEqual({ position: 5, crossing: ['chosen'] });
    of.valueInfo = of.valueInfo.filter(({ name }) => name !== 'chosen');
    expect(blockBoundaries(of)[1]).toEqual({ position: 4, crossing: ['h0', 'h1'] });
  });

  it('leaves linears around the blocks in the outer segments', () => {
    const of = made({
      nodes: [
        linear('time_embedder.linear_1', 'x', 'time'),
        node('Add', ['time', 'x'], 'sum'),
        linear('patch_embedding', 'sum', 'h0'),
        ...block(0, 'h0', 'h1'),
        node('Abs', ['h1'], 'h2'),
        head('h2'),
      ],
    });
    const cuts = blockBoundaries(of);
    expect(cuts.map(({ position }) => position)).toEqual([3, 6]);
    expectBlocksApart(of, cuts);
  });

  it.each<[string, Shape]>([
    ['of no blocks', { nodes: [patch, head('h0')] }],
    ['of nothing', { nodes: [] }],
    ['of linears that nothing names', { nodes: [linear('a', 'x', 'p'), linear('b', 'p', 'y')] }],
    ['whose first block is missing', { nodes: [patch, ...block(1, 'h0', 'h1'), ...block(2, 'h1', 'h2'), head('h2')] }],
    ['in which a block is missing', { nodes: [patch, ...block(0, 'h0', 'h1'), ...block(2, 'h1', 'h2'), head('h2')] }],
    ['whose blocks are not in order', { nodes: [patch, ...block(1, 'h0', 'h1'), ...block(0, 'h1', 'h2'), head('h2')] }],
    [
      'whose blocks overlap',
      {
        nodes: [
          patch,
          linear(up(0), 'h0', 'a'),
          linear(up(1), 'h0', 'b'),
          linear(down(0), 'a', 'c'),
          linear(down(1), 'b', 'd'),
          node('Add', ['c', 'd'], 'h2'),
          head('h2'),
        ],
      },
    ],
    [
      'in which one block stands inside another',
      { nodes: [patch, linear(up(0), 'h0', 'a'), ...block(1, 'a', 'b'), linear(down(0), 'b', 'h2'), head('h2')] },
    ],
    [
      'with another linear between two blocks',
      { nodes: [patch, ...block(0, 'h0', 'h1'), linear('other', 'h1', 'o'), ...block(1, 'o', 'h2'), head('h2')] },
    ],
    [
      'with another linear inside a block',
      {
        nodes: [
          patch,
          linear(up(0), 'h0', 'a'),
          linear('other', 'a', 'b'),
          linear(down(0), 'b', 'h1'),
          ...block(1, 'h1', 'h2'),
          head('h2'),
        ],
      },
    ],
    [
      'whose hidden states have no type',
      { nodes: [patch, ...block(0, 'h0', 'h1'), ...block(1, 'h1', 'h2'), head('h2')], untyped: ['h1'] },
    ],
    [
      'whose first hidden states have no type',
      { nodes: [patch, ...block(0, 'h0', 'h1'), ...block(1, 'h1', 'h2'), head('h2')], untyped: ['h0'] },
    ],
    [
      'in which a value without a type crosses all blocks',
      {
        nodes: [
          node('Shape', ['x'], 'shape'),
          patch,
          ...block(0, 'h0', 'h1'),
          ...block(1, 'h1', 'h2'),
          node('Reshape', ['h2', 'shape'], 'h3'),
          head('h3'),
        ],
        untyped: ['shape'],
      },
    ],
  ])('finds none in a graph %s', (_, shape) => {
    expect(blockBoundaries(made(shape))).toEqual([]);
  });

  it('leaves the graph as it was', () => {
    const of = made({ nodes: [patch, ...block(0, 'h0', 'h1'), head('h1')] });
    const before = structuredClone({ nodes: of.nodes.length, values: of.valueInfo });
    blockBoundaries(of);
    expect({ nodes: of.nodes.length, values: of.valueInfo }).toEqual(before);
  });
});

describe('isConstant', () => {
  it.each([
    ['Constant', '', true],
    ['Constant', 'ai.onnx', true],
    ['Constant', 'com.example', false],
    ['ConstantOfShape', '', false],
  ])('of %s in the domain "%s" is %s', (opType, domain, expected) => {
    expect(isConstant(node(opType, [], 'c', [], { domain }))).toBe(expected);
  });
});
