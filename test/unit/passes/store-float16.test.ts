import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { storeFloat16 } from '../../../src/passes/store-float16.js';
import { read } from '../../helpers/source.js';
import { expectRejection } from '../helpers/errors.js';
import { graph, model, node } from '../helpers/graphs.js';

const W = Float32Array.of(1 / 3, -2, 65_504, 1e-9, 5, -0.1);

const product = (): Model =>
  model({
    nodes: [node('MatMul', ['x', 'w'], 'p'), node('Add', ['p', 'b'], 'y')],
    initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('b', [3], [1, 2, 3])],
    inputs: ['x'],
    outputs: ['y'],
  });

const store = (made: Model, ...names: string[]): string | undefined => storeFloat16(new Set(names)).run(made);

const tensor = (made: Model, name: string): Tensor => made.graph.initializers.get(name) as Tensor;

/** Whether every value is made before it is read, and once. */
function expectValid({ graph: of }: Model): void {
  const known = new Set([...of.inputs.map(({ name }) => name), ...of.initializers.keys()]);
  for (const { inputs, outputs } of of.nodes) {
    expect(inputs.filter((name) => !known.has(name))).toEqual([]);
    expect(outputs.filter((name) => known.has(name))).toEqual([]);
    for (const name of outputs) known.add(name);
  }
}

const casts = ({ graph: of }: Model): Node[] => of.nodes.filter(({ opType }) => opType === 'Cast');

describe('store-float16', () => {
  it('stores a weight as float16 and casts it back under its name', async () => {
    const made = product();
    const bias = tensor(made, 'b');
    expect(store(made, 'w')).toBeDefined();
    expect([...made.graph.initializers.keys()]).toEqual(['b', 'w_float16']);
    const stored = tensor(made, 'w_float16');
    expect(stored).toMatchObject({ dtype: 'float16', dims: [2, 3], byteLength: 12 });
    expect(Buffer.from(await read(stored))).toEqual(Buffer.from(float32ToHalf(W).buffer));
    expect(tensor(made, 'b')).toBe(bias);
    expect(casts(made)).toMatchObject([
      { inputs: ['w_float16'], outputs: ['w'], domain: '', attributes: [int('to', DataType.float32)] },
    ]);
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['Cast', 'MatMul', 'Add']);
    expect(made.graph.nodes[1]?.inputs).toEqual(['x', 'w']);
    expectValid(made);
  });

  it('stores all that is named, and casts each once whoever reads it', () => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'p'), node('MatMul', ['x', 'w'], 'q'), node('Sum', ['p', 'q', 'b'], 'y')],
      initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('b', [3], [1, 2, 3])],
      inputs: ['x'],
      outputs: ['y'],
    });
    expect(store(made, 'b', 'w')).toBeDefined();
    expect(casts(made).map(({ inputs, outputs }) => [...inputs, ...outputs])).toEqual([
      ['w_float16', 'w'],
      ['b_float16', 'b'],
    ]);
    expectValid(made);
  });

  it('leaves a linear what it was, with a weight of float16 that is computed in float32', () => {
    const made = product();
    const [before] = findLinears(made.graph);
    store(made, 'w');
    const [after] = findLinears(made.graph);
    expect(before?.weight.dtype).toBe('float32');
    expect(after).toMatchObject({ computeType: 'float32', inFeatures: 2, outFeatures: 3, transposed: false });
    expect(after?.weight.dtype).toBe('float16');
    expect(after?.matrix).toMatchObject({ dtype: 'float16', dims: [2, 3] });
  });

  it('changes nothing the second time', () => {
    const made = product();
    const pass = storeFloat16(new Set(['w', 'w_float16']));
    expect(pass.run(made)).toBeDefined();
    const nodes = [...made.graph.nodes];
    const initializers = [...made.graph.initializers];
    expect(pass.run(made)).toBeUndefined();
    expect(made.graph.nodes).toEqual(nodes);
    expect([...made.graph.initializers]).toEqual(initializers);
  });

  it.each<[string, Tensor]>([
    ['stored as float16', Tensor.fromBytes('w', 'float16', [1], new Uint8Array(2))],
    ['stored as bfloat16', Tensor.fromBytes('w', 'bfloat16', [1], new Uint8Array(2))],
    ['of float64', Tensor.float64('w', [1], [1])],
    ['of integers', Tensor.int64('w', [1], [1])],
    [
      'derived of another',
      new Tensor('w', 'float32', [1], {
        kind: 'derived',
        source: Tensor.float32('w', [1], [1]),
        form: { as: 'float16-rounded' },
      }),
    ],
  ])('leaves alone a weight that is %s', (_, stored) => {
    const made = model({ nodes: [node('Neg', ['w'], 'y')], initializers: [stored], outputs: ['y'] });
    expect(store(made, 'w')).toBeUndefined();
    expect([...made.graph.initializers.values()]).toEqual([stored]);
    expect(made.graph.nodes).toHaveLength(1);
  });

  it('leaves alone what is not named, and what is named and not there', () => {
    const made = product();
    expect(store(made)).toBeUndefined();
    expect(store(made, 'absent', 'x', 'p')).toBeUndefined();
    expect([...made.graph.initializers.keys()]).toEqual(['w', 'b']);
    expect(made.graph.inputs.map(({ name }) => name)).toEqual(['x']);
  });

  it('takes a weight that is an input with a default from the inputs: a node makes it now', () => {
    const made = product();
    made.graph.inputs = [{ name: 'w', dtype: 'float32', dims: [2, 3] }, ...made.graph.inputs];
    store(made, 'w');
    expect(made.graph.inputs.map(({ name }) => name)).toEqual(['x']);
    expectValid(made);
  });

  it('still gives a weight that is an output', () => {
    const made = product();
    made.graph.outputs.push({ name: 'w', dtype: 'float32', dims: [2, 3] });
    store(made, 'w');
    expect(made.graph.outputs.map(({ name }) => name)).toEqual(['y', 'w']);
    expect(casts(made)[0]?.outputs).toEqual(['w']);
  });

  it('uses no name that is taken, in a subgraph either', () => {
    const made = product();
    const branch = graph({
      nodes: [node('Neg', ['w'], 'w_Cast')],
      initializers: [Tensor.float32('w_float16_1', [1], [1])],
      outputs: ['w_Cast'],
    });
    made.graph.nodes.push(
      node('Relu', ['y'], 'w_float16'),
      node('If', ['y'], 'chosen', [{ name: 'then_branch', type: 'graph', value: branch }]),
    );
    store(made, 'w', 'b');
    const [first, second] = casts(made);
    expect(first).toMatchObject({ name: 'w_Cast_1', inputs: ['w_float16_2'], outputs: ['w'] });
    expect(second).toMatchObject({ name: 'b_Cast', inputs: ['b_float16'], outputs: ['b'] });
    expectValid(made);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 65_520])('cannot store %d', async (broken) => {
    const made = model({
      nodes: [node('Neg', ['w'], 'y')],
      initializers: [Tensor.float32('w', [2], [1, broken])],
      outputs: ['y'],
    });
    store(made, 'w');
    await expectRejection(read(tensor(made, 'w_float16')), 'MODEL_UNSUPPORTED');
  });
});
