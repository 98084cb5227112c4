import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/ir/tensor.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { graph, model, node, value } from '../helpers/graphs.js';

const scalar = (name: string): Tensor => Tensor.float32(name, [], [1]);

describe('remove-unused', () => {
  it('drops chains of nodes and initializers that no output depends on', () => {
    const made = model({
      nodes: [
        node('Mul', ['x', 'used'], 'a'),
        node('Mul', ['x', 'unused'], 'dead1'),
        node('Relu', ['dead1'], 'dead2'),
        node('Relu', ['a'], 'y'),
      ],
      initializers: [scalar('used'), scalar('unused'), scalar('orphan')],
      inputs: ['x'],
      outputs: ['y'],
    });
    made.graph.valueInfo = [value('a'), value('dead1'), value('used'), value('orphan')];
    expect(removeUnused.run(made)).toBeDefined();
    expect(made.graph.nodes.map(({ name }) => name)).toEqual(['a', 'y']);
    expect([...made.graph.initializers.keys()]).toEqual(['used']);
    expect(made.graph.valueInfo.map(({ name }) => name)).toEqual(['a', 'used']);
    expect(removeUnused.run(made)).toBeUndefined();
  });

  it('drops an input with a default together with it, and keeps other inputs', () => {
    const made = model({
      nodes: [node('Mul', ['x', 'used'], 'y')],
      initializers: [scalar('used'), scalar('unused')],
      inputs: ['x', 'idle', 'used', 'unused'],
      outputs: ['y'],
    });
    expect(removeUnused.run(made)).toBeDefined();
    expect(made.graph.inputs.map(({ name }) => name)).toEqual(['x', 'idle', 'used']);
    expect([...made.graph.initializers.keys()]).toEqual(['used']);
  });

  it('keeps what a subgraph captures', () => {
    const body = graph({ nodes: [node('Add', ['captured', 'weight'], 'inner')], outputs: ['inner'] });
    const made = model({
      nodes: [
        node('Relu', ['x'], 'captured'),
        node('If', ['x'], 'y', [{ name: 'then_branch', type: 'graph', value: body }]),
      ],
      initializers: [scalar('weight')],
      inputs: ['x'],
      outputs: ['y'],
    });
    expect(removeUnused.run(made)).toBeUndefined();
    expect(made.graph.nodes).toHaveLength(2);
    expect(made.graph.initializers.size).toBe(1);
  });

  it('keeps a node for any of its outputs, and an initializer that is an output itself', () => {
    const split = node('Split', ['x'], 'unread');
    split.outputs = ['unread', 'y'];
    const made = model({ nodes: [split], initializers: [scalar('constant')], outputs: ['y', 'constant'] });
    expect(removeUnused.run(made)).toBeUndefined();
    expect(made.graph.nodes).toEqual([split]);
    expect([...made.graph.initializers.keys()]).toEqual(['constant']);
  });
});
