import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../../src/analyze/linears.js';
import { valueTypes } from '../../../../src/analyze/value-types.js';
import { int } from '../../../../src/ir/attribute.js';
import { DataType } from '../../../../src/ir/dtype.js';
import type { Model, Node } from '../../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../../src/ir/tensor.js';
import { graphText } from '../../../../src/ir/text.js';
import { indexGraph } from '../../../../src/ir/traverse.js';
import { float32ToHalf } from '../../../../src/numerics/half.js';
import { quantizeWeight } from '../../../../src/numerics/int8.js';
import { runPasses } from '../../../../src/passes/pass.js';
import { type QuantizedLinear, quantizeLinears, type ScaleType } from '../../../../src/passes/quantize-linears.js';
import { read } from '../../../helpers/source.js';
import { model, node } from '../../helpers/graphs.js';

const W = Float32Array.of(1, -2, 3, 40, -50, 60);

const linearsOf = (made: Model, scaleType: ScaleType = 'float32'): QuantizedLinear[] =>
  findLinears(made.graph).map((linear) => ({ linear, form: 'weights', scaleType }));

const quantize = (made: Model, scaleType?: ScaleType): unknown =>
  runPasses(made, [quantizeLinears(linearsOf(made, scaleType))]);

const matmul = (weight: Tensor = Tensor.float32('w', [2, 3], W)): Model =>
  model({ nodes: [node('MatMul', ['x', 'w'], 'y')], initializers: [weight], inputs: ['x'], outputs: ['y'] });

const makerOf = (made: Model, value: string | undefined): Node =>
  indexGraph(made.graph).producers.get(value ?? '') as Node;

describe('a linear with its weight alone in INT8', () => {
  it('reads its activation as it was, and its weight through a per-channel DequantizeLinear', async () => {
    const made = matmul();
    quantize(made);
    const product = makerOf(made, 'y');
    expect(product.inputs[0]).toBe('x');
    const dequantize = makerOf(made, product.inputs[1]);
    expect(dequantize).toMatchObject({ opType: 'DequantizeLinear', attributes: [int('axis', 1)] });
    const [codes, scales, zeros] = dequantize.inputs.map((name) => made.graph.initializers.get(name)) as Tensor[];
    expect(codes).toMatchObject({ dtype: 'int8', dims: [2, 3] });
    expect([...new Int8Array((await read(codes as Tensor)).slice().buffer)]).toEqual([
      ...quantizeWeight(W, 2, 3, 1).values,
    ]);
    expect(scales).toMatchObject({ dtype: 'float32', dims: [3] });
    expect(zeros).toMatchObject({ dtype: 'int8', dims: [3] });
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['DequantizeLinear', 'MatMul']);
  });

  it('changes nothing the second time', () => {
    const made = matmul();
    const pass = quantizeLinears(linearsOf(made));
    expect(pass.run(made)).toContain('1 linear with no QuantizeLinear');
    const text = graphText(made);
    expect(pass.run(made)).toBeUndefined();
    expect(graphText(made)).toBe(text);
  });

  it('computes in FP16 between Casts, one for all who read its activation, where scales are FP16 and it did not', () => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'a'), node('MatMul', ['x', 'v'], 'b')],
      initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('v', [2, 3], W.toReversed())],
      inputs: ['x'],
      outputs: ['a', 'b'],
    });
    quantize(made, 'float16');
    const types = valueTypes(made.graph);
    expect(types.get('a')).toBe('float32');
    const product = makerOf(made, makerOf(made, 'a').inputs[0]);
    expect(product.inputs.map((name) => types.get(name))).toEqual(['float16', 'float16']);
    expect(made.graph.nodes.filter(({ opType, inputs }) => opType === 'Cast' && inputs[0] === 'x')).toHaveLength(1);
  });

  it('keeps a product in float16 that was one', () => {
    const made = matmul(Tensor.fromBytes('w', 'float16', [2, 3], asBytes(float32ToHalf(W))));
    quantize(made, 'float16');
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['DequantizeLinear', 'MatMul']);
  });
});

describe('a convolution with its kernel alone in INT8', () => {
  const KERNEL = Float32Array.from({ length: 12 }, (_, i) => (i % 5) - 2);
  const conv = (): Model =>
    model({
      nodes: [node('Conv', ['x', 'k', 'b'], 'y', [int('group', 1)])],
      initializers: [Tensor.float32('k', [2, 3, 2], KERNEL), Tensor.float32('b', [2], [1, 2])],
      inputs: ['x'],
      outputs: ['y'],
    });

  it('keeps its attributes and its bias, and the shape of its kernel', () => {
    const made = conv();
    quantize(made);
    const product = makerOf(made, 'y');
    expect(product).toMatchObject({ opType: 'Conv', attributes: [int('group', 1)] });
    expect(product.inputs[0]).toBe('x');
    expect(product.inputs[2]).toBe('b');
    const dequantize = makerOf(made, product.inputs[1]);
    expect(dequantize.attributes).toEqual([int('axis', 0)]);
    expect(made.graph.initializers.get(dequantize.inputs[0] as string)).toMatchObject({ dims: [2, 3, 2] });
    expect(made.graph.initializers.get(dequantize.inputs[1] as string)).toMatchObject({ dims: [2] });
  });

  it('computes in FP16 with its bias, where scales are FP16', () => {
    const made = conv();
    quantize(made, 'float16');
    const types = valueTypes(made.graph);
    const back = makerOf(made, 'y');
    expect(back).toMatchObject({ opType: 'Cast', attributes: [int('to', DataType.float32)] });
    expect(makerOf(made, back.inputs[0]).inputs.map((name) => types.get(name))).toEqual(Array(3).fill('float16'));
  });
});
