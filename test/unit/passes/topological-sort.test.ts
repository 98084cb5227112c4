import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../src/ir/graph.js';
import { valuesRead } from '../../../src/ir/traverse.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { graph, model, node } from '../helpers/graphs.js';

function sorted(nodes: Node[]): { order: string[]; did: string | undefined } {
  const made = model({ nodes, inputs: ['x'], outputs: ['y'] });
  const did = topologicalSort.run(made);
  return { order: made.graph.nodes.map(({ name }) => name), did };
}

/** Values that nodes read before they are made. */
function readTooEarly(nodes: readonly Node[]): string[] {
  const last = new Map(nodes.flatMap(({ outputs }, i) => outputs.map((name) => [name, i] as const)));
  return nodes.flatMap((made, i) => [...valuesRead(made)].filter((name) => (last.get(name) ?? -1) >= i));
}

/** Any acyclic graph, nodes and their inputs in any order. */
const scrambled = fc.integer({ min: 1, max: 12 }).chain((size) =>
  fc
    .tuple(
      ...Array.from({ length: size }, (_, i) => fc.shuffledSubarray(Array.from({ length: i }, (__, j) => `v${j}`))),
    )
    .chain((inputs) => {
      const nodes = inputs.map((names, i) => node('Sum', ['x', ...names], `v${i}`));
      return fc.shuffledSubarray(nodes, { minLength: size });
    }),
);

describe('topological-sort', () => {
  it('leaves nodes that are in order as they are', () => {
    const nodes = [node('Relu', ['x'], 'b'), node('Relu', ['x'], 'a'), node('Add', ['a', 'b'], 'y')];
    expect(sorted(nodes)).toEqual({ order: ['b', 'a', 'y'], did: undefined });
  });

  it('restores a reversed chain', () => {
    const chain = Array.from({ length: 2000 }, (_, i) => node('Relu', [i === 0 ? 'x' : `v${i - 1}`], `v${i}`));
    const { order, did } = sorted(chain.toReversed());
    expect(did).toBe('moved 2000 nodes');
    expect(order).toEqual(chain.map(({ name }) => name));
  });

  it('moves nodes that were appended to where they are needed', () => {
    const nodes = [node('Relu', ['x'], 'a'), node('Relu', ['b'], 'y'), node('Relu', ['a'], 'b')];
    expect(sorted(nodes).order).toEqual(['a', 'b', 'y']);
  });

  it('puts a node after what its subgraph captures', () => {
    const body = graph({ nodes: [node('Neg', ['late'], 'inner')], outputs: ['inner'] });
    const conditional = node('If', ['x'], 'y', [{ name: 'then_branch', type: 'graph', value: body }]);
    expect(sorted([conditional, node('Relu', ['x'], 'late')]).order).toEqual(['late', 'y']);
  });

  it('is not led astray by omitted inputs and outputs', () => {
    const split = node('Split', ['x'], 'a');
    split.outputs = ['a', ''];
    expect(sorted([node('Clip', ['a', '', 'x'], 'y'), split]).order).toEqual(['a', 'y']);
  });

  it('orders every acyclic graph and loses no node', () => {
    fc.assert(
      fc.property(scrambled, (nodes) => {
        const made = model({ nodes: [...nodes] });
        topologicalSort.run(made);
        expect(readTooEarly(made.graph.nodes)).toEqual([]);
        expect(new Set(made.graph.nodes)).toEqual(new Set(nodes));
        expect(made.graph.nodes).toHaveLength(nodes.length);
        expect(topologicalSort.run(made)).toBeUndefined();
      }),
      { numRuns: 500 },
    );
  });

  it('orders nodes that read all nodes before them, nearest first', () => {
    const nodes = [
      node('Sum', ['c', 'b', 'a'], 'd'),
      node('Sum', ['b', 'a'], 'c'),
      node('Sum', ['a'], 'b'),
      node('Relu', ['x'], 'a'),
    ];
    expect(sorted(nodes).order).toEqual(['a', 'b', 'c', 'd']);
  });

  it('ends on cycles and keeps their nodes', () => {
    const nodes = [
      node('Add', ['x', 'c'], 'a'),
      node('Relu', ['a'], 'b'),
      node('Relu', ['b'], 'c'),
      node('Relu', ['self'], 'self'),
      node('Relu', ['c'], 'y'),
    ];
    expect(sorted(nodes).order.sort()).toEqual(['a', 'b', 'c', 'self', 'y']);
  });
});
