import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int } from '../../../src/ir/attribute.js';
import { type Dim, Graph, Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { type QuantizedLinear, quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { shieldBiases } from '../../../src/passes/shield-biases.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { node, value } from '../helpers/graphs.js';

const QDQ = { activation: { dtype: 'uint8', scale: 0.1, zeroPoint: 3 } } as const;

/** A linear's form, without the linear. */
type Form = QuantizedLinear extends infer Each ? (Each extends QuantizedLinear ? Omit<Each, 'linear'> : never) : never;

interface Given {
  readonly dims: readonly Dim[] | null;
  readonly bias?: readonly number[];
  /** What the graph states of the activation, which another node makes of the input. */
  readonly stated?: readonly Dim[];
  readonly form?: Form;
  readonly exposed?: boolean;
  readonly cast?: boolean;
}

/** relu(x) times w, plus a bias. */
function made({ dims, bias = [3], stated, form = QDQ, exposed = false, cast = false }: Given): Model {
  const elements = bias.reduce((a, b) => a * b, 1);
  const graph = new Graph({
    name: 'test',
    nodes: [
      node('Relu', ['x'], 'h'),
      node('MatMul', ['h', 'w'], 'product'),
      ...(cast ? [node('Cast', ['b'], 'bias', [int('to', 1)])] : []),
      node('Add', ['product', cast ? 'bias' : 'b'], 'y'),
    ],
    initializers: [
      Tensor.float32('w', [2, 3], new Float32Array(6).fill(1)),
      Tensor.float32('b', bias, new Float32Array(elements)),
    ],
    inputs: [{ name: 'x', dtype: 'float32', dims }],
    outputs: [value('y'), ...(exposed ? [value('product')] : [])],
    valueInfo: stated ? [{ name: 'h', dtype: 'float32', dims: stated }] : [],
  });
  const model = new Model({ irVersion: 10, opsets: [{ domain: '', version: 21 }], graph });
  quantizeLinears(findLinears(graph).map((linear) => ({ linear, ...form }) as QuantizedLinear)).run(model);
  topologicalSort.run(model);
  return model;
}

const behind = (model: Model): string | undefined =>
  model.graph.nodes.find(({ outputs }) => outputs[0] === 'y')?.opType;

describe('shield-biases', () => {
  it.each<[string, Given]>([
    ['all dimensions of the inputs are known', { dims: [1, 16, 2] }],
    ['all dimensions of the activation are known', { dims: null, stated: [1, 16, 2] }],
    ['they follow from the inputs, and symbols are stated', { dims: [1, 16, 2], stated: ['s0', 's1', 2] }],
    ['matrices are multiplied', { dims: ['tokens', 2] }],
    ['matrices are multiplied, and the bias has two axes', { dims: null, stated: ['tokens', 2], bias: [1, 3] }],
    ['the bias is cast from a constant', { dims: [1, 16, 2], cast: true }],
  ])('makes a Sum where %s', (_, given) => {
    const model = made(given);
    expect(behind(model)).toBe('Add');
    expect(shieldBiases.run(model)).toContain('1 Add');
    expect(behind(model)).toBe('Sum');
    expect(shieldBiases.run(model)).toBeUndefined();
  });

  it.each<[string, Given]>([
    ['a dimension is open', { dims: [1, 'tokens', 2] }],
    ['nothing is known of the input', { dims: null }],
    ['the activation is as open as the input', { dims: ['batch', 16, 2], stated: ['batch', 16, 2] }],
    ['the bias has two axes, and the activation three', { dims: [1, 16, 2], bias: [1, 3] }],
    ['one number is added', { dims: [1, 16, 2], bias: [] }],
    ['the product is read elsewhere too', { dims: [1, 16, 2], exposed: true }],
    ['the weight alone is quantized', { dims: [1, 16, 2], form: { form: 'weights' } }],
    ['the product is one of integers', { dims: [1, 16, 2], form: { form: 'integer-dynamic' } }],
  ])('leaves an Add where %s', (_, given) => {
    const model = made(given);
    expect(shieldBiases.run(model)).toBeUndefined();
    expect(behind(model)).toBe('Add');
  });

  it('leaves products alone that are not quantized', () => {
    const model = made({ dims: [1, 16, 2] });
    for (const each of model.graph.nodes) each.metadata = new Map();
    expect(shieldBiases.run(model)).toBeUndefined();
  });
});
