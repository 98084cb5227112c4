import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Attribute } from '../../../src/ir/attribute.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { liftConstants } from '../../../src/passes/lift-constants.js';
import { graph, model, node } from '../helpers/graphs.js';

/** 1,024 bytes, which is what is lifted, or one element fewer. */
const VALUES = Float32Array.from({ length: 256 }, (_, i) => i / 3);
const weight = (name = ''): Tensor => Tensor.float32(name, [16, 16], VALUES);

const value = (tensor: Tensor): Attribute => ({ name: 'value', type: 'tensor', value: tensor });
const constant = (name: string, attribute: Attribute, fields = {}): Node =>
  node('Constant', [], name, [attribute], fields);

const build = (...nodes: Node[]) => model({ nodes, inputs: ['x'], outputs: ['y'] });

describe('lift-constants', () => {
  it('makes an initializer of a weight in a Constant node, under the name of the value', () => {
    const made = build(constant('w', value(weight('inner'))), node('MatMul', ['x', 'w'], 'y'));
    const [before] = findLinears(made.graph);
    expect(liftConstants.run(made)).toBe('made initializers of 1 constant');
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['MatMul']);
    expect([...made.graph.initializers.values()]).toEqual([weight('w')]);
    expect(findLinears(made.graph)).toEqual([before]);
  });

  it('writes it as the initializer it is then', () => {
    const made = build(constant('w', value(weight('inner'))), node('MatMul', ['x', 'w'], 'y'));
    const read = decodeModel(encodeModel(made));
    liftConstants.run(read);
    const { graph: again } = decodeModel(encodeModel(read));
    expect(again.nodes.map(({ opType }) => opType)).toEqual(['MatMul']);
    expect([...again.initializers.values()].map(({ name, dims }) => [name, dims])).toEqual([['w', [16, 16]]]);
    const { data } = again.initializers.get('w') as Tensor;
    expect(data.kind === 'bytes' && Buffer.from(data.bytes)).toEqual(Buffer.from(asBytes(VALUES)));
  });

  it('lifts all of them and keeps the order of the rest', () => {
    const made = build(
      node('Relu', ['x'], 'a'),
      constant('w', value(weight())),
      node('MatMul', ['a', 'w'], 'b'),
      constant('list', { name: 'value_floats', type: 'floats', value: [...VALUES] }),
      node('Add', ['b', 'list'], 'y'),
    );
    expect(liftConstants.run(made)).toBe('made initializers of 2 constants');
    expect(made.graph.nodes.map(({ name }) => name)).toEqual(['a', 'b', 'y']);
    expect([...made.graph.initializers.values()].map(({ name, dims }) => [name, dims])).toEqual([
      ['w', [16, 16]],
      ['list', [256]],
    ]);
  });

  it.each<DataTypeName>(['float16', 'bfloat16'])('lifts weights of %s', (dtype) => {
    const tensor = Tensor.fromBytes('', dtype, [512], new Uint8Array(1024));
    const made = build(constant('y', value(tensor)));
    expect(liftConstants.run(made)).toBeDefined();
    expect(made.graph.initializers.get('y')).toEqual(tensor.renamed('y'));
  });

  it('gives a constant that is an output of the graph as an initializer', () => {
    const made = build(constant('y', value(weight())), node('Relu', ['y'], 'z'));
    liftConstants.run(made);
    expect(made.graph.outputs.map(({ name }) => name)).toEqual(['y']);
    expect(made.graph.initializers.has('y')).toBe(true);
  });

  it('changes nothing the second time', () => {
    const made = build(constant('w', value(weight())), node('MatMul', ['x', 'w'], 'y'));
    liftConstants.run(made);
    const [nodes, initializers] = [[...made.graph.nodes], [...made.graph.initializers]];
    expect(liftConstants.run(made)).toBeUndefined();
    expect(made.graph.nodes).toEqual(nodes);
    expect([...made.graph.initializers]).toEqual(initializers);
  });

  it.each<[string, Node]>([
    ['a small weight', constant('w', value(Tensor.float32('', [255], VALUES.subarray(1))))],
    ['integers', constant('w', value(Tensor.int64('', [500], Array(500).fill(1))))],
    ['a list of integers', constant('w', { name: 'value_ints', type: 'ints', value: Array(500).fill(1) })],
    ['text', constant('w', { name: 'value_string', type: 'string', value: new Uint8Array(2000) })],
    ['a sparse tensor', constant('w', { name: 'sparse_value', type: 'opaque' })],
    ['a Constant of another domain', constant('w', value(weight()), { domain: 'com.example' })],
    ['another operator with such an attribute', node('ConstantOfShape', ['x'], 'w', [value(weight())])],
    ['a Constant whose value nobody can read', constant('', value(weight()))],
    ['a Constant without outputs', constant('w', value(weight()), { outputs: [] })],
  ])('leaves alone %s', (_, left) => {
    const made = build(left, node('Relu', ['x'], 'y'));
    const nodes = [...made.graph.nodes];
    expect(liftConstants.run(made)).toBeUndefined();
    expect(made.graph.nodes).toEqual(nodes);
    expect(made.graph.initializers.size).toBe(0);
  });

  it('leaves alone what stands in a branch', () => {
    const branch = graph({ nodes: [constant('w', value(weight())), node('MatMul', ['x', 'w'], 't')], outputs: ['t'] });
    const made = build(node('If', ['x'], 'y', [{ name: 'then_branch', type: 'graph', value: branch }]));
    expect(liftConstants.run(made)).toBeUndefined();
    expect(branch.nodes).toHaveLength(2);
  });
});
