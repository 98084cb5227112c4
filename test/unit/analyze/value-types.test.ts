import { describe, expect, it } from 'vitest';
import { valueTypes } from '../../../src/analyze/value-types.js';
import { type Attribute, int } from '../../../src/ir/attribute.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import { Node, type NodeFields } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graph, node } from '../helpers/graphs.js';

const half = Tensor.fromBytes('half', 'float16', [1], new Uint8Array(2));
const zero = Tensor.fromBytes('zero', 'int8', [1], new Uint8Array(1));

/** Types of a graph with float32 `x`, float16 `half`, int8 `zero` and these nodes. */
const types = (...nodes: Node[]) => valueTypes(graph({ nodes, initializers: [half, zero], inputs: ['x'] }));

const result = (opType: string, inputs: string[], attributes: Attribute[] = [], fields: Partial<NodeFields> = {}) =>
  types(node(opType, inputs, 'y', attributes, fields)).get('y');

describe('valueTypes', () => {
  it.each<[DataTypeName, string, string[], Attribute[]?]>([
    ['float32', 'MatMul', ['x', 'w']],
    ['float16', 'Add', ['half', 'x']],
    ['int64', 'Shape', ['half']],
    ['bool', 'Less', ['x', 'x']],
    ['float16', 'Cast', ['x'], [int('to', 10)]],
    ['float16', 'CastLike', ['x', 'half']],
    ['float16', 'Where', ['condition', 'unknown', 'half']],
    ['int8', 'QuantizeLinear', ['x', 's', 'zero']],
    ['uint8', 'QuantizeLinear', ['x', 's']],
    ['int8', 'QuantizeLinear', ['x', 's'], [int('output_dtype', 3)]],
    ['int32', 'MatMulInteger', ['zero', 'zero']],
    ['float16', 'DequantizeLinear', ['zero', 'half']],
    ['float32', 'DequantizeLinear', ['zero', 'half'], [int('output_dtype', 1)]],
    ['float32', 'ConstantOfShape', ['shape']],
    ['int8', 'ConstantOfShape', ['shape'], [{ name: 'value', type: 'tensor', value: zero }]],
    ['float16', 'Constant', [], [{ name: 'value', type: 'tensor', value: half }]],
    ['float32', 'Constant', [], [{ name: 'value_floats', type: 'floats', value: [1] }]],
    ['int64', 'Constant', [], [int('value_int', 1)]],
  ])('finds %s for %s of %j', (expected, opType, inputs, attributes) => {
    expect(result(opType, inputs, attributes)).toBe(expected);
  });

  it('knows nothing of operators and types that it does not know', () => {
    expect(result('Novel', ['x'])).toBeUndefined();
    expect(result('Add', ['unknown', 'x'])).toBeUndefined();
    expect(result('Cast', ['x'], [int('to', 999)])).toBeUndefined();
    expect(result('Add', ['x', 'x'], [], { domain: 'com.example' })).toBeUndefined();
    expect(result('FusedMatMul', ['x', 'x'], [], { domain: 'com.microsoft' })).toBe('float32');
  });

  it('follows values through a graph, and takes what is stated where nothing follows', () => {
    const made = graph({ nodes: [node('Novel', ['x'], 'n'), node('Neg', ['n'], 'y')], inputs: ['x'] });
    made.valueInfo = [{ name: 'n', dtype: 'float16', dims: null }];
    expect(valueTypes(made).get('y')).toBe('float16');
    made.nodes[0] = node('Neg', ['x'], 'n');
    expect(valueTypes(made).get('y')).toBe('float32');
  });

  it('gives every part of a Split its type, and other further outputs none', () => {
    const two = (opType: string): Node => new Node({ opType, inputs: ['x'], outputs: ['a', 'b'] });
    expect(types(two('Split')).get('b')).toBe('float32');
    expect(types(two('MaxPool')).get('b')).toBeUndefined();
    expect(types(two('MaxPool')).get('a')).toBe('float32');
  });
});
