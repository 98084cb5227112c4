import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { type Attribute, int } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { graphText } from '../../../src/ir/text.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { type ActivationScale, quantizeWeight } from '../../../src/numerics/int8.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { runPasses } from '../../../src/passes/pass.js';
import { type QuantizedLinear, quantizeLinears, type ScaleType } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { read } from '../../helpers/source.js';
import { chains, evaluate, flipped, type Grid, gridOf } from '../helpers/chains.js';
import { expectRefusal, expectRejection } from '../helpers/errors.js';
import { graph, model, node, readFloats } from '../helpers/graphs.js';

const SIGNED: ActivationScale = { dtype: 'int8', scale: 0.25, zeroPoint: 0 };
const UNSIGNED: ActivationScale = { dtype: 'uint8', scale: 0.5, zeroPoint: 7 };

const W = Float32Array.of(1, -2, 3, 40, -50, 60);
const transpose2x3 = [1, 40, -2, -50, 3, 60];

const transposed = (from: string, to: string): Node =>
  node('Transpose', [from], to, [{ name: 'perm', type: 'ints', value: [1, 0] }]);

function quantize(made: Model, activation = SIGNED): string[] {
  const linears = findLinears(made.graph).map((linear) => ({ linear, activation }));
  return runPasses(made, [quantizeLinears(linears)]).map(({ pass }) => pass);
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

function producerOf(made: Model, name: string): Node {
  return indexGraph(made.graph).producers.get(name) as Node;
}

/** Operators from a MatMul to the value that took over its result, each with what it reads besides. */
function behind(made: Model, name: string): [opType: string, others: string[]][] {
  const { opType, inputs } = producerOf(made, name);
  if (opType === 'MatMul') return [[opType, []]];
  return [...behind(made, inputs[0] as string), [opType, inputs.slice(1)]];
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
    expect(pass.run(made)).toBeDefined();
    const nodes = [...made.graph.nodes];
    const inputs = nodes.map((each) => [...each.inputs]);
    const initializers = [...made.graph.initializers.values()];
    expect(pass.run(made)).toBeUndefined();
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

  it('lays out the weight of a Gemm with transB as a MatMul reads it, with a scale for each row that was', async () => {
    const made = model({
      nodes: [node('Gemm', ['x', 'w', 'b'], 'y', [int('transB', 1)])],
      initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('b', [2], [1, 2])],
      inputs: ['x'],
    });
    quantize(made);
    const { values, scale, zero, dequantize } = dequantized(made, 'y', 1);
    const expected = quantizeWeight(W, 2, 3, 0, true);
    expect(values.dims).toEqual([3, 2]);
    expect(await int8Of(values)).toEqual([...expected.values]);
    expect(await readFloats(scale)).toEqual([...expected.scales]);
    expect(zero.dims).toEqual([2]);
    expect(dequantize.intAttribute('axis', -1)).toBe(1);
    expect(behind(made, 'y')).toEqual([
      ['MatMul', []],
      ['Sum', ['b']],
    ]);
    expect(inOrder(made)).toBe(true);
  });
});

const alpha = (value: number): Attribute => ({ name: 'alpha', type: 'float', value });
const beta = (value: number): Attribute => ({ name: 'beta', type: 'float', value });

describe('quantize-linears on a Gemm', () => {
  const gemm = (inputs: string[], attributes: Attribute[] = []): Model =>
    model({
      nodes: [node('Gemm', ['x', 'w', ...inputs], 'y', attributes), node('Relu', ['y'], 'z')],
      initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('b', [3], [1, 2, 3])],
      inputs: ['x'],
      outputs: ['y', 'z'],
    });

  it.each<[string, string[]]>([
    ['no bias', []],
    ['a bias that is left out', ['']],
  ])('makes a MatMul alone of one with %s', (_, inputs) => {
    const made = gemm(inputs, [beta(3)]);
    quantize(made);
    expect(behind(made, 'y')).toEqual([['MatMul', []]]);
    expect(producerOf(made, 'y')).toMatchObject({ name: 'y', attributes: [], domain: '' });
  });

  it('keeps the name of its result for those who read it, and its own', () => {
    const made = gemm(['b']);
    quantize(made);
    const product = made.graph.nodes.find(({ name }) => name === 'y') as Node;
    expect(product).toMatchObject({ opType: 'MatMul', attributes: [] });
    expect(product.outputs).not.toEqual(['y']);
    expect(made.graph.nodes.find(({ name }) => name === 'z')?.inputs).toEqual(['y']);
    expect(made.graph.outputs.map(({ name }) => name)).toEqual(['y', 'z']);
    expect(inOrder(made)).toBe(true);
  });

  it('multiplies the bias by beta', async () => {
    const made = gemm(['b'], [beta(0.5), alpha(2)]);
    quantize(made);
    const [, [, [scaled = '']] = ['', []]] = behind(made, 'y');
    const { opType, inputs } = producerOf(made, scaled);
    expect([opType, inputs[0]]).toEqual(['Mul', 'b']);
    const factor = made.graph.initializers.get(inputs[1] as string) as Tensor;
    expect(factor).toMatchObject({ dtype: 'float32', dims: [] });
    expect(await readFloats(factor)).toEqual([0.5]);
    expect(inOrder(made)).toBe(true);
  });

  it.each<[DataTypeName, number[]]>([
    ['float16', [0, 0x38]],
    ['bfloat16', [0, 0x3f]],
  ])('has beta in %s where it computed in that', async (dtype, bytes) => {
    const made = gemm(['b'], [beta(0.5)]);
    for (const name of ['w', 'b']) {
      const { dims, elements } = made.graph.initializers.get(name) as Tensor;
      made.graph.addInitializer(Tensor.fromBytes(name, dtype, dims, new Uint8Array(2 * elements)));
    }
    quantize(made);
    const factor = [...made.graph.initializers.values()].find(({ name }) => name.includes('beta')) as Tensor;
    expect(factor.dtype).toBe(dtype);
    expect([...(await read(factor))]).toEqual(bytes);
    expect(behind(made, 'y').map(([opType]) => opType)).toEqual(['MatMul', 'Cast', 'Sum']);
    expect(inOrder(made)).toBe(true);
  });
});

describe('quantize-linears on a product in float16', () => {
  const halves = (): Model =>
    model({
      nodes: [node('MatMul', ['x', 'w'], 'y'), node('Relu', ['x'], 'other')],
      initializers: [Tensor.fromBytes('w', 'float16', [2, 3], asBytes(float32ToHalf(W)))],
      inputs: ['x'],
      outputs: ['y', 'other'],
    });
  const linearsOf = (made: Model, scaleType: ScaleType): QuantizedLinear[] =>
    findLinears(made.graph).map((linear) => ({ linear, activation: SIGNED, scaleType }));

  it('has Casts around it where scales are float32, and a result of its name and type', async () => {
    const made = halves();
    runPasses(made, [quantizeLinears(linearsOf(made, 'float32'))]);
    const { scale, source, producers } = dequantized(made, 'y', 0);
    expect(scale.dtype).toBe('float32');
    const quantizer = producers.get(source) as Node;
    const before = producers.get(quantizer.inputs[0] as string) as Node;
    expect(before).toMatchObject({ opType: 'Cast', inputs: ['x'], attributes: [int('to', DataType.float32)] });
    expect(dequantized(made, 'y', 1).scale.dtype).toBe('float32');
    expect(behind(made, 'y').map(([opType]) => opType)).toEqual(['MatMul', 'Cast']);
    expect(producerOf(made, 'y').attributes).toEqual([int('to', DataType.float16)]);
    expect(made.graph.nodes.find(({ name }) => name === 'other')?.inputs).toEqual(['x']);
    expect(inOrder(made)).toBe(true);
  });

  it('has none where scales are float16', async () => {
    const made = halves();
    runPasses(made, [quantizeLinears(linearsOf(made, 'float16'))]);
    expect(made.graph.nodes.map(({ opType }) => opType).sort()).toEqual(
      ['DequantizeLinear', 'DequantizeLinear', 'MatMul', 'QuantizeLinear', 'Relu'].sort(),
    );
    const { scale, values } = dequantized(made, 'y', 1);
    const expected = quantizeWeight(W, 2, 3, 1, false, 'float16');
    expect(scale).toMatchObject({ dtype: 'float16', dims: [3], byteLength: 6 });
    expect(Buffer.from(await read(scale))).toEqual(Buffer.from(asBytes(float32ToHalf(expected.scales))));
    expect(await int8Of(values)).toEqual([...expected.values]);
    const activation = dequantized(made, 'y', 0);
    expect(activation.scale).toMatchObject({ dtype: 'float16', dims: [] });
    expect([...(await read(activation.scale))]).toEqual([0, 0x34]);
    expect(behind(made, 'y')).toEqual([['MatMul', []]]);
  });

  it.each<[ScaleType, number]>([
    ['float32', 13],
    ['float16', 19],
  ])('with scales of %s needs opset %i', (scaleType, least) => {
    const pass = quantizeLinears(linearsOf(halves(), scaleType));
    for (const [opset, works] of [
      [least - 1, false],
      [least, true],
    ] as const) {
      const made = halves();
      made.opsets = [{ domain: '', version: opset }];
      if (works) expect(pass.requires?.(made)).toBeUndefined();
      else expectRefusal(() => pass.requires?.(made), 'MODEL_UNSUPPORTED');
    }
  });

  it('has a pair for each type of scales, be they alike', () => {
    const made = halves();
    made.graph.nodes.push(node('MatMul', ['x', 'w'], 'z'));
    const linears = findLinears(made.graph).map((linear, i): QuantizedLinear => {
      return { linear, activation: SIGNED, scaleType: i === 0 ? 'float16' : 'float32' };
    });
    runPasses(made, [quantizeLinears(linears)]);
    for (const input of [0, 1]) {
      expect(dequantized(made, 'y', input).scale.dtype).toBe('float16');
      expect(dequantized(made, 'z', input).scale.dtype).toBe('float32');
    }
    expect(inOrder(made)).toBe(true);
  });

  it('casts an activation once that several products read', () => {
    const made = model({
      nodes: ['a', 'b'].map((name) => node('MatMul', ['x', `w${name}`], name)),
      initializers: ['wa', 'wb'].map((name) => Tensor.fromBytes(name, 'float16', [2, 3], asBytes(float32ToHalf(W)))),
      inputs: ['x'],
    });
    runPasses(made, [quantizeLinears(linearsOf(made, 'float32'))]);
    expect(made.graph.nodes.filter(({ inputs }) => inputs[0] === 'x')).toHaveLength(1);
    expect(dequantized(made, 'a', 0).dequantize).toBe(dequantized(made, 'b', 0).dequantize);
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

describe('quantize-linears on a weight that is scaled', () => {
  const scaled = (...products: [scale: string, opType?: string][]): Model =>
    model({
      nodes: products.flatMap(([scale, opType = 'Mul'], i) => [
        node(opType, ['w', scale], `w${i}`),
        node('MatMul', ['x', `w${i}`], `y${i}`),
      ]),
      initializers: [
        Tensor.float32('w', [2, 3], W),
        Tensor.float32('columns', [3], [1, 2, 3]),
        Tensor.float32('alike', [3], [1, 2, 3]),
        Tensor.float32('rows', [2, 1], [5, 7]),
      ],
      inputs: ['x'],
    });
  const codesOf = (made: Model): Tensor[] =>
    made.graph.nodes.flatMap(({ name, opType }) => (opType === 'MatMul' ? [dequantized(made, name, 1).values] : []));

  it('stores it once for products that scale it alike', () => {
    const made = scaled(['columns'], ['columns']);
    quantize(made);
    expect(new Set(codesOf(made)).size).toBe(1);
    expect(inOrder(made)).toBe(true);
  });

  it.each<[string, Parameters<typeof scaled>]>([
    ['other factors', [['columns'], ['rows']]],
    ['factors of other names', [['columns'], ['alike']]],
    ['factors to multiply and to divide by', [['columns'], ['columns', 'Div']]],
  ])('stores it once for each of %s', async (_, products) => {
    const made = scaled(...products);
    quantize(made);
    expect(new Set(codesOf(made)).size).toBe(2);
    for (const name of ['y0', 'y1']) {
      const [scale, opType = 'Mul'] = products[Number(name[1])] ?? ['columns'];
      const of = { columns: [1, 2, 3], alike: [1, 2, 3], rows: [5, 7] }[scale] as number[];
      const effective = W.map((value, i) => {
        const factor = of[scale === 'rows' ? Math.floor(i / 3) : i % 3] as number;
        return opType === 'Div' ? value / factor : value * factor;
      });
      const { values } = dequantized(made, name, 1);
      expect(await int8Of(values)).toEqual([...quantizeWeight(effective, 2, 3, 1).values]);
    }
  });

  it('stores it once for each alpha', async () => {
    const fused = (to: string, value: number): Node =>
      node('FusedMatMul', ['x', 'w'], to, [alpha(value)], { domain: 'com.microsoft' });
    const made = model({
      nodes: [fused('a', 2), fused('b', 3), fused('c', 2)],
      initializers: [Tensor.float32('w', [2, 3], W)],
      inputs: ['x'],
    });
    quantize(made);
    const [a, b, c] = ['a', 'b', 'c'].map((name) => dequantized(made, name, 1));
    expect(a?.values).toBe(c?.values);
    expect(a?.values).not.toBe(b?.values);
    const doubled = quantizeWeight(
      W.map((value) => 2 * value),
      2,
      3,
      1,
    );
    expect(await readFloats(a?.scale as Tensor)).toEqual([...doubled.scales]);
  });
});

/** A product of any kind that reads the end of a chain. */
const product = fc.record({
  chain: chains('regular'),
  kind: fc.constantFrom<Linear['kind']>('MatMul', 'FusedMatMul', 'Gemm'),
  transB: fc.boolean(),
  alpha: fc.constantFrom(1, 0.5, -2, Math.fround(0.3)),
  beta: fc.constantFrom(1, 0.25),
  bias: fc.boolean(),
  stored: fc.constantFrom<DataTypeName>('float32', 'float16', 'float64'),
  scaleType: fc.constantFrom<ScaleType>('float32', 'float16'),
});

/** The model of a product, and the weight it multiplies with, `[in, out]`. */
function build(of: Unpacked<typeof product>): { made: Model; weight: Grid } {
  const { chain, kind, stored } = of;
  const attributes = kind === 'MatMul' ? [] : [int('transB', of.transB ? 1 : 0), alpha(of.alpha)];
  if (kind === 'Gemm') attributes.push(beta(of.beta));
  const inputs = ['x', chain.value, ...(kind === 'Gemm' && of.bias ? ['bias'] : [])];
  const domain = kind === 'FusedMatMul' ? 'com.microsoft' : '';
  const read = evaluate(chain.value, graph({ nodes: chain.nodes, initializers: chain.initializers }));
  const turned = kind !== 'MatMul' && of.transB ? flipped(read) : read;
  const made = model({
    nodes: [...chain.nodes, node(kind, inputs, 'y', attributes, { domain })],
    initializers: [
      ...chain.initializers.map((tensor) => (tensor.name === 'w' ? as(stored, tensor) : tensor)),
      Tensor.float32('bias', [turned.dims[1] as number], new Float32Array(turned.dims[1] as number)),
    ],
    inputs: ['x'],
    outputs: ['y'],
  });
  const factor = kind === 'MatMul' ? 1 : of.alpha;
  return { made, weight: { dims: turned.dims, values: turned.values.map((value) => value * factor) } };
}

type Unpacked<T> = T extends fc.Arbitrary<infer U> ? U : never;

/** A float32 tensor in another type. */
function as(dtype: DataTypeName, tensor: Tensor): Tensor {
  const values = Float32Array.from(gridOf(tensor).values);
  if (dtype === 'float16') return Tensor.fromBytes(tensor.name, dtype, tensor.dims, asBytes(float32ToHalf(values)));
  return dtype === 'float64' ? Tensor.float64(tensor.name, tensor.dims, [...values]) : tensor;
}

describe('quantize-linears on any product, behind any chain,', () => {
  it('reproduces the weight within half a step, as [in, out] and with a scale for each output', async () => {
    await fc.assert(
      fc.asyncProperty(product, async (of) => {
        const { made, weight } = build(of);
        const linears = findLinears(made.graph).map(
          (linear): QuantizedLinear => ({ linear, activation: SIGNED, scaleType: of.scaleType }),
        );
        expect(linears.map(({ linear }) => linear.kind)).toEqual([of.kind]);
        runPasses(made, [quantizeLinears(linears), removeUnused]);
        const { values, scale, zero, dequantize } = dequantized(made, 'y', 1);
        const [inFeatures, outFeatures] = weight.dims as [number, number];
        expect(values.dims).toEqual([inFeatures, outFeatures]);
        expect([scale.dtype, scale.dims, zero.dims]).toEqual([of.scaleType, [outFeatures], [outFeatures]]);
        expect(dequantize.intAttribute('axis', -1)).toBe(1);
        const codes = await int8Of(values);
        const scales = gridOf(Tensor.fromBytes('', scale.dtype, scale.dims, await read(scale))).values;
        const wrong = weight.values.filter((value, i) => {
          const step = scales[i % outFeatures] as number;
          const code = codes[i] as number;
          return !(Math.abs(code * step - value) <= (step / 2) * (1 + 2 ** -15) && Math.abs(code) <= 127);
        });
        expect(wrong).toEqual([]);
      }),
      { numRuns: 400 },
    );
  });

  it('leaves its result, nodes in order, and nothing between the product and its dequantized inputs', () => {
    fc.assert(
      fc.property(product, (of) => {
        const { made } = build(of);
        const [linear] = findLinears(made.graph) as [Linear];
        const pass = quantizeLinears([{ linear, activation: UNSIGNED, scaleType: of.scaleType }]);
        expect(runPasses(made, [pass, topologicalSort, removeUnused]).length).toBeGreaterThan(0);
        dequantized(made, 'y', 0);
        dequantized(made, 'y', 1);
        expect(inOrder(made)).toBe(true);
        expect(behind(made, 'y').map(([opType]) => opType)).toEqual([
          'MatMul',
          ...(linear.computeType === of.scaleType ? [] : ['Cast']),
          ...(of.kind === 'Gemm' && of.bias ? ['Sum'] : []),
        ]);
        const names = made.graph.nodes.map(({ name }) => name);
        expect(new Set(names).size).toBe(names.length);
        expect(findLinears(made.graph)).toEqual([]);
        const once = graphText(made);
        expect(pass.run(made)).toBeUndefined();
        expect(graphText(made)).toBe(once);
      }),
      { numRuns: 300 },
    );
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
