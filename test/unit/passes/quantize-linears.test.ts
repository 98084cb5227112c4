import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int } from '../../../src/ir/attribute.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { type ActivationScale, quantizeWeight } from '../../../src/numerics/int8.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { runPasses } from '../../../src/passes/pass.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { read } from '../../helpers/source.js';
import { expectRefusal, expectRejection } from '../helpers/errors.js';
import { model, node, readFloats } from '../helpers/graphs.js';

const SIGNED: ActivationScale = { dtype: 'int8', scale: 0.25, zeroPoint: 0 };
const UNSIGNED: ActivationScale = { dtype: 'uint8', scale: 0.5, zeroPoint: 7 };

const W = Float32Array.of(1, -2, 3, 40, -50, 60);
const transpose2x3 = [1, 40, -2, -50, 3, 60];

const transposed = (from: string, to: string): Node =>
  node('Transpose', [from], to, [{ name: 'perm', type: 'ints', value: [1, 0] }]);

function quantize(made: Model, activation = SIGNED): string[] {
  const linears = findLinears(made.graph).map((linear) => ({ linear, activation }));
  return runPasses(made, [quantizeLinears(linears)]);
}

/** What feeds an input of a node: a DequantizeLinear and its tensors. */
function dequantized(made: Model, consumer: string, input: number) {
  const { producers } = indexGraph(made.graph);
  const target = made.graph.nodes.find(({ name }) => name === consumer) as Node;
  const dequantize = producers.get(target.inputs[input] as string) as Node;
  expect(dequantize.opType).toBe('DequantizeLinear');
  const [source, scale, zero] = dequantize.inputs as [string, string, string];
  const tensor = (name: string): Tensor => made.graph.initializers.get(name) as Tensor;
  return { dequantize, producers, source, scale: tensor(scale), zero: tensor(zero), values: tensor(source) };
}

async function int8Of(tensor: Tensor): Promise<number[]> {
  return [...new Int8Array((await read(tensor)).slice().buffer)];
}

/** Whether every value is made before it is read. */
function inOrder(made: Model): boolean {
  const known = new Set([...made.graph.inputs.map(({ name }) => name), ...made.graph.initializers.keys()]);
  return made.graph.nodes.every(({ inputs, outputs }) => {
    const ready = inputs.every((name) => known.has(name));
    for (const name of outputs) known.add(name);
    return ready;
  });
}

const matmul = (): Model =>
  model({
    nodes: [node('MatMul', ['x', 'w'], 'y')],
    initializers: [Tensor.float32('w', [2, 3], W)],
    inputs: ['x'],
    outputs: ['y'],
  });

describe('quantize-linears on a MatMul', () => {
  it('feeds it a weight quantized per column', async () => {
    const made = matmul();
    expect(quantize(made)).toEqual(['quantize-linears']);
    const { dequantize, values, scale, zero } = dequantized(made, 'y', 1);
    const expected = quantizeWeight(W, 2, 3, 1);
    expect(values).toMatchObject({ dtype: 'int8', dims: [2, 3], byteLength: 6 });
    expect(await int8Of(values)).toEqual([...expected.values]);
    expect(await readFloats(scale)).toEqual([...expected.scales]);
    expect(zero).toMatchObject({ dtype: 'int8', dims: [3] });
    expect(await int8Of(zero)).toEqual([0, 0, 0]);
    expect(dequantize.intAttribute('axis', -1)).toBe(1);
    expect(inOrder(made)).toBe(true);
  });

  it('gives the scales also where they are asked for before the values', async () => {
    const made = matmul();
    quantize(made);
    const { scale } = dequantized(made, 'y', 1);
    expect(await readFloats(scale)).toEqual([...quantizeWeight(W, 2, 3, 1).scales]);
  });

  it.each([SIGNED, UNSIGNED])('feeds it an activation through %j', async (activation) => {
    const made = matmul();
    quantize(made, activation);
    const { source, scale, zero, producers } = dequantized(made, 'y', 0);
    const quantizer = producers.get(source) as Node;
    expect(quantizer.opType).toBe('QuantizeLinear');
    expect(quantizer.inputs).toEqual(['x', scale.name, zero.name]);
    expect(scale.dims).toEqual([]);
    expect(await readFloats(scale)).toEqual([activation.scale]);
    expect(zero).toMatchObject({ dtype: activation.dtype, dims: [] });
    expect([...(await read(zero))]).toEqual([activation.zeroPoint]);
  });

  it('leaves the float weight unused', () => {
    const made = matmul();
    quantize(made);
    removeUnused.run(made);
    expect(made.graph.initializers.has('w')).toBe(false);
    expect(
      [...made.graph.initializers.values()].filter(({ dtype, dims }) => dtype === 'float32' && dims.length === 2),
    ).toEqual([]);
  });

  it('reads float16 weights', async () => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      initializers: [Tensor.fromBytes('w', 'float16', [2, 3], new Uint8Array(float32ToHalf(W).buffer))],
      inputs: ['x'],
    });
    quantize(made);
    expect(await int8Of(dequantized(made, 'y', 1).values)).toEqual([...quantizeWeight(W, 2, 3, 1).values]);
  });

  it('changes nothing the second time', () => {
    const made = matmul();
    const linears = findLinears(made.graph).map((linear) => ({ linear, activation: SIGNED }));
    const pass = quantizeLinears(linears);
    expect(pass.run(made)).toBe(true);
    const nodes = [...made.graph.nodes];
    const inputs = nodes.map((each) => [...each.inputs]);
    const initializers = [...made.graph.initializers.values()];
    expect(pass.run(made)).toBe(false);
    expect(made.graph.nodes).toEqual(nodes);
    expect(made.graph.nodes.map((each) => each.inputs)).toEqual(inputs);
    expect([...made.graph.initializers.values()]).toEqual(initializers);
    expect(findLinears(made.graph)).toEqual([]);
  });

  it('needs opset 13', () => {
    const made = matmul();
    made.opsets = [{ domain: '', version: 12 }];
    expectRefusal(() => quantize(made), 'MODEL_UNSUPPORTED');
  });

  it('uses no name that is taken', () => {
    const made = matmul();
    made.graph.nodes.push(node('Relu', ['y'], 'w_scale'), node('Relu', ['y'], 'x_QuantizeLinear_Output'));
    quantize(made);
    const names = [...made.graph.initializers.keys(), ...made.graph.nodes.flatMap(({ outputs }) => outputs)];
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('quantize-linears on weights that are stored otherwise', () => {
  it('folds a transpose into the stored weight', async () => {
    const made = model({
      nodes: [transposed('w', 't'), node('MatMul', ['x', 't'], 'y')],
      initializers: [Tensor.float32('w', [2, 3], W)],
      inputs: ['x'],
      outputs: ['y'],
    });
    quantize(made);
    const { values, scale, dequantize } = dequantized(made, 'y', 1);
    const expected = quantizeWeight(Float32Array.from(transpose2x3), 3, 2, 1);
    expect(values.dims).toEqual([3, 2]);
    expect(await int8Of(values)).toEqual([...expected.values]);
    expect(await readFloats(scale)).toEqual([...expected.scales]);
    expect(dequantize.intAttribute('axis', -1)).toBe(1);
    removeUnused.run(made);
    expect(made.graph.nodes.map(({ opType }) => opType)).not.toContain('Transpose');
  });

  it('quantizes the weight of a Gemm with transB per row', async () => {
    const made = model({
      nodes: [node('Gemm', ['x', 'w', 'b'], 'y', [int('transB', 1)])],
      initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('b', [2], [1, 2])],
      inputs: ['x'],
    });
    quantize(made);
    const { values, scale, zero, dequantize } = dequantized(made, 'y', 1);
    const expected = quantizeWeight(W, 2, 3, 0);
    expect(values.dims).toEqual([2, 3]);
    expect(await int8Of(values)).toEqual([...expected.values]);
    expect(await readFloats(scale)).toEqual([...expected.scales]);
    expect(zero.dims).toEqual([2]);
    expect(dequantize.intAttribute('axis', -1)).toBe(0);
    expect(made.graph.nodes.at(-1)?.inputs[2]).toBe('b');
  });
});

const threeReaders = (): Model =>
  model({
    nodes: [
      node('MatMul', ['x', 'q'], 'yq'),
      node('MatMul', ['x', 'k'], 'yk'),
      node('MatMul', ['x', 'v'], 'yv'),
      node('Relu', ['x'], 'other'),
    ],
    initializers: ['q', 'k', 'v'].map((name) => Tensor.float32(name, [2, 3], W)),
    inputs: ['x'],
    outputs: ['yq', 'yk', 'yv', 'other'],
  });

describe('quantize-linears on an activation with several readers', () => {
  const quantizers = (made: Model): Node[] => made.graph.nodes.filter(({ opType }) => opType === 'QuantizeLinear');

  it('makes one pair for all of them, the first reader behind it', () => {
    const made = threeReaders();
    quantize(made, SIGNED);
    expect(quantizers(made)).toHaveLength(1);
    const sources = ['yq', 'yk', 'yv'].map((name) => dequantized(made, name, 0).dequantize);
    expect(new Set(sources).size).toBe(1);
    expect(inOrder(made)).toBe(true);
  });

  it('leaves other readers their float value', () => {
    const made = threeReaders();
    quantize(made);
    expect(made.graph.nodes.find(({ name }) => name === 'other')?.inputs).toEqual(['x']);
  });

  it('does not share a pair between different scales', () => {
    const made = threeReaders();
    const linears = findLinears(made.graph).map((linear, i) => ({
      linear,
      activation: { ...SIGNED, scale: i === 2 ? 1 : 0.25 },
    }));
    runPasses(made, [quantizeLinears(linears)]);
    expect(quantizers(made)).toHaveLength(2);
    expect(dequantized(made, 'yq', 0).dequantize).toBe(dequantized(made, 'yk', 0).dequantize);
    expect(dequantized(made, 'yv', 0).dequantize).not.toBe(dequantized(made, 'yq', 0).dequantize);
  });
});

describe('quantize-linears on a weight with several readers', () => {
  it('stores it once where they read it the same way', () => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'a'), node('MatMul', ['x2', 'w'], 'b')],
      initializers: [Tensor.float32('w', [2, 3], W)],
      inputs: ['x', 'x2'],
    });
    quantize(made);
    expect(dequantized(made, 'a', 1).values).toBe(dequantized(made, 'b', 1).values);
    expect(inOrder(made)).toBe(true);
  });

  it('stores it twice where they read it along different axes', async () => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'a'), node('Gemm', ['x2', 'w'], 'b', [int('transB', 1)])],
      initializers: [Tensor.float32('w', [2, 3], W)],
      inputs: ['x', 'x2'],
    });
    quantize(made);
    expect(await readFloats(dequantized(made, 'a', 1).scale)).toEqual([...quantizeWeight(W, 2, 3, 1).scales]);
    expect(await readFloats(dequantized(made, 'b', 1).scale)).toEqual([...quantizeWeight(W, 2, 3, 0).scales]);
  });
});

describe('a quantized model', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses a weight that holds %d', async (broken) => {
    const made = model({
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      initializers: [Tensor.float32('w', [1, 2], [1, broken])],
      inputs: ['x'],
      outputs: ['y'],
    });
    quantize(made);
    await expectRejection(read(dequantized(made, 'y', 1).values), 'MODEL_INVALID');
  });

  it('cannot be encoded before its weights are computed', () => {
    const made = matmul();
    quantize(made);
    expect(() => encodeModel(made)).toThrow('was not computed');
  });
});
