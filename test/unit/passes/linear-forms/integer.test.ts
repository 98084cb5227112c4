import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../../src/analyze/linears.js';
import { valueTypes } from '../../../../src/analyze/value-types.js';
import { type Attribute, int, ints } from '../../../../src/ir/attribute.js';
import { DataType } from '../../../../src/ir/dtype.js';
import type { Model, Node } from '../../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../../src/ir/tensor.js';
import { graphText } from '../../../../src/ir/text.js';
import { indexGraph } from '../../../../src/ir/traverse.js';
import { float32ToHalf } from '../../../../src/numerics/half.js';
import { quantizeWeight } from '../../../../src/numerics/int8.js';
import { runPasses } from '../../../../src/passes/pass.js';
import { type QuantizedLinear, quantizeLinears } from '../../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../../src/passes/remove-unused.js';
import { topologicalSort } from '../../../../src/passes/topological-sort.js';
import { read } from '../../../helpers/source.js';
import { model, node, readFloats } from '../../helpers/graphs.js';

const W = Float32Array.of(1, -2, 3, 40, -50, 60);

type Form = { readonly form: 'integer-static' | 'integer-dynamic' } & Omit<QuantizedLinear, 'linear' | 'form'>;

const STATIC: Form = { form: 'integer-static', activation: { dtype: 'int8', scale: 0.25, zeroPoint: 0 } } as Form;
const AFFINE: Form = { form: 'integer-static', activation: { dtype: 'uint8', scale: 0.25, zeroPoint: 7 } } as Form;
const DYNAMIC: Form = { form: 'integer-dynamic' };
const UNSIGNED: Form = { form: 'integer-dynamic', codes: 'uint8' } as Form;
const FORMS: [string, Form][] = [
  ['static', STATIC],
  ['static, UINT8', AFFINE],
  ['dynamic', DYNAMIC],
  ['dynamic, UINT8', UNSIGNED],
];

function quantize(made: Model, form: Form): void {
  const linears = findLinears(made.graph).map((linear) => ({ linear, ...form }) as QuantizedLinear);
  runPasses(made, [quantizeLinears(linears), topologicalSort, removeUnused]);
}

const two = (opset = 21): Model =>
  model(
    {
      nodes: [node('MatMul', ['x', 'w'], 'a'), node('MatMul', ['x', 'v'], 'b')],
      initializers: [Tensor.float32('w', [2, 3], W), Tensor.float32('v', [2, 3], W.toReversed())],
      inputs: ['x'],
      outputs: ['a', 'b'],
    },
    opset,
  );

const products = (made: Model): Node[] => made.graph.nodes.filter(({ opType }) => opType === 'MatMulInteger');

/** Operators from a value back to a product, the last one first. */
function behind(made: Model, value: string): string[] {
  const { producers } = indexGraph(made.graph);
  const found: string[] = [];
  for (let at = producers.get(value); at; at = producers.get(at.inputs[0] as string)) {
    found.push(at.opType);
    if (at.opType === 'MatMulInteger') return found;
  }
  throw new Error(`${value} comes of no product`);
}

function makerOf(made: Model, value: string | undefined): Node {
  return indexGraph(made.graph).producers.get(value ?? '') as Node;
}

describe.each(FORMS)('a MatMulInteger, %s', (_, form) => {
  it('takes the place of every product, by codes of its weight, quantized per column', async () => {
    const made = two();
    quantize(made, form);
    expect(products(made)).toHaveLength(2);
    const codes = made.graph.initializers.get(products(made)[0]?.inputs[1] ?? '') as Tensor;
    expect(codes).toMatchObject({ dtype: 'int8', dims: [2, 3] });
    expect([...new Int8Array((await read(codes)).slice().buffer)]).toEqual([...quantizeWeight(W, 2, 3, 1).values]);
    expect(made.graph.initializers.has('w')).toBe(false);
  });

  it('reads codes that are made once for all who read the activation', () => {
    const made = two();
    quantize(made, form);
    const [first, second] = products(made);
    expect(first?.inputs[0]).toBe(second?.inputs[0]);
    expect(made.graph.nodes.filter(({ opType }) => opType === 'QuantizeLinear')).toHaveLength(1);
  });

  it('gives float32 results under the names they had, nodes in order and named apart', () => {
    const made = two();
    quantize(made, form);
    const types = valueTypes(made.graph);
    expect(['a', 'b'].map((name) => types.get(name))).toEqual(['float32', 'float32']);
    const known = new Set([...made.graph.inputs.map(({ name }) => name), ...made.graph.initializers.keys(), '']);
    for (const { inputs, outputs } of made.graph.nodes) {
      expect(inputs.every((name) => known.has(name))).toBe(true);
      for (const name of outputs) known.add(name);
    }
    const names = made.graph.nodes.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('changes nothing the second time', () => {
    const made = two();
    const linears = findLinears(made.graph).map((linear) => ({ linear, ...form }) as QuantizedLinear);
    const pass = quantizeLinears(linears);
    expect(pass.run(made)).toContain('2 linears');
    const text = graphText(made);
    expect(pass.run(made)).toBeUndefined();
    expect(pass.ensures?.(made)).toBeUndefined();
    expect(graphText(made)).toBe(text);
  });

  it('says what is wrong where its operands were changed', () => {
    const made = two();
    const pass = quantizeLinears(findLinears(made.graph).map((linear) => ({ linear, ...form }) as QuantizedLinear));
    pass.run(made);
    const [product] = products(made) as [Node];
    const [codes, weight] = product.inputs as [string, string];
    product.inputs = ['x', weight];
    expect(pass.ensures?.(made)).toContain('activation');
    product.inputs = [codes, 'x'];
    expect(pass.ensures?.(made)).toContain('weight');
  });

  it('adds the bias of a Gemm behind its scales, and folds alpha and transB into the codes', async () => {
    const attributes: Attribute[] = [
      int('transB', 1),
      { name: 'alpha', type: 'float', value: 2 },
      { name: 'beta', type: 'float', value: 0.5 },
    ];
    const made = model({
      nodes: [node('Gemm', ['x', 'w', 'b'], 'y', attributes)],
      initializers: [Tensor.float32('w', [3, 2], W), Tensor.float32('b', [3], [1, 2, 3])],
      inputs: ['x'],
      outputs: ['y'],
    });
    quantize(made, form);
    const [product] = products(made) as [Node];
    expect(product.attributes).toEqual([]);
    const { codes, scales } = weightOf(made, product);
    const doubled = W.map((w) => 2 * w);
    expect(codes.dims).toEqual([2, 3]);
    expect([...new Int8Array((await read(codes)).slice().buffer)]).toEqual([
      ...quantizeWeight(doubled, 3, 2, 0, true).values,
    ]);
    expect(await readFloats(scales)).toEqual([...quantizeWeight(doubled, 3, 2, 0).scales]);
    const add = makerOf(made, 'y');
    expect(add.opType).toBe('Add');
    expect(makerOf(made, add.inputs[1]).inputs[0]).toBe('b');
  });
});

function weightOf(made: Model, product: Node): { codes: Tensor; scales: Tensor } {
  const codes = made.graph.initializers.get(product.inputs[1] as string) as Tensor;
  const scales = made.graph.initializers.get(codes.name.replace('quantized', 'scale')) as Tensor;
  return { codes, scales };
}

describe('a static MatMulInteger', () => {
  it('is scaled by the product of both scales, which is one of constants', async () => {
    const made = two();
    quantize(made, STATIC);
    expect(behind(made, 'a')).toEqual(['Mul', 'Cast', 'MatMulInteger']);
    const factor = makerOf(made, makerOf(made, 'a').inputs[1]);
    const [activation, weight] = factor.inputs.map((name) => made.graph.initializers.get(name)) as [Tensor, Tensor];
    expect(factor.opType).toBe('Mul');
    expect(activation).toMatchObject({ dtype: 'float32', dims: [] });
    expect(await readFloats(activation)).toEqual([0.25]);
    expect(weight).toMatchObject({ dtype: 'float32', dims: [3] });
    expect(await readFloats(weight)).toEqual([...quantizeWeight(W, 2, 3, 1).scales]);
  });

  it('has an input for a zero point that is not 0, and none for one that is', async () => {
    const symmetric = two();
    quantize(symmetric, STATIC);
    expect(products(symmetric)[0]?.inputs).toHaveLength(2);
    const affine = two();
    quantize(affine, AFFINE);
    const zero = affine.graph.initializers.get(products(affine)[0]?.inputs[2] ?? '') as Tensor;
    expect(zero).toMatchObject({ dtype: 'uint8', dims: [] });
    expect([...(await read(zero))]).toEqual([7]);
  });
});

describe('a dynamic MatMulInteger', () => {
  const quantizer = (made: Model): Node => made.graph.nodes.find(({ opType }) => opType === 'QuantizeLinear') as Node;

  it('is scaled by its token, then by its channel', () => {
    const made = two();
    quantize(made, DYNAMIC);
    expect(behind(made, 'a')).toEqual(['Mul', 'Mul', 'Cast', 'MatMulInteger']);
  });

  it('reads rows of a matrix, each with a scale of its own: the largest magnitude over 127, and never 0', async () => {
    const made = two();
    quantize(made, DYNAMIC);
    const { inputs, attributes } = quantizer(made);
    expect(attributes).toEqual([int('axis', 0)]);
    const [rows, scale] = inputs.map((name) => makerOf(made, name)) as [Node, Node];
    expect([rows.opType, rows.inputs[0]]).toEqual(['Reshape', 'x']);
    expect(scale.opType).toBe('Reshape');
    const least = makerOf(made, scale.inputs[0]);
    expect(least.opType).toBe('Max');
    expect(await readFloats(made.graph.initializers.get(least.inputs[1] as string) as Tensor)).toEqual([2 ** -126]);
    const share = makerOf(made, least.inputs[0]);
    expect(share.opType).toBe('Div');
    expect(await readFloats(made.graph.initializers.get(share.inputs[1] as string) as Tensor)).toEqual([127]);
    const largest = makerOf(made, share.inputs[0]);
    expect([largest.opType, makerOf(made, largest.inputs[0]).opType]).toEqual(['ReduceMax', 'Abs']);
  });

  it.each([
    [17, 1, [ints('axes', [-1]), int('keepdims', 1)]],
    [18, 2, [int('keepdims', 1)]],
  ])('reduces the last axis as opset %i says it', (opset, inputs, attributes) => {
    const made = two(opset);
    quantize(made, DYNAMIC);
    const reduce = made.graph.nodes.find(({ opType }) => opType === 'ReduceMax') as Node;
    expect(reduce.inputs).toHaveLength(inputs);
    expect(reduce.attributes).toEqual(attributes);
  });

  it('has as many zero points as scales, of the type of its codes, and tells the product of those that are not 0', async () => {
    const signed = two();
    quantize(signed, DYNAMIC);
    expect(makerOf(signed, quantizer(signed).inputs[2]).attributes).toEqual([int('to', DataType.int8)]);
    expect(products(signed)[0]?.inputs).toHaveLength(2);
    const unsigned = two();
    quantize(unsigned, UNSIGNED);
    const cast = makerOf(unsigned, quantizer(unsigned).inputs[2]);
    expect(cast.attributes).toEqual([int('to', DataType.uint8)]);
    expect(makerOf(unsigned, cast.inputs[0]).opType).toBe('Add');
    const zero = unsigned.graph.initializers.get(products(unsigned)[0]?.inputs[2] ?? '') as Tensor;
    expect(zero).toMatchObject({ dtype: 'uint8', dims: [] });
    expect([...(await read(zero))]).toEqual([128]);
  });
});

describe('a MatMulInteger of a product in float16', () => {
  const halves = (): Model =>
    model({
      nodes: [node('MatMul', ['x', 'w'], 'y')],
      initializers: [Tensor.fromBytes('w', 'float16', [2, 3], asBytes(float32ToHalf(W)))],
      inputs: ['x'],
      outputs: ['y'],
    });

  it.each([STATIC, DYNAMIC])('quantizes halves, and makes halves of sums that are scaled in float32: $form', (form) => {
    const made = halves();
    quantize(made, { ...form, scaleType: 'float16' } as Form);
    const quantizer = made.graph.nodes.find(({ opType }) => opType === 'QuantizeLinear') as Node;
    const scale = made.graph.initializers.get(quantizer.inputs[1] as string);
    if (form === STATIC) expect(scale).toMatchObject({ dtype: 'float16', dims: [] });
    const muls = form === STATIC ? ['Mul'] : ['Mul', 'Mul'];
    expect(behind(made, 'y')).toEqual(['Cast', ...muls, 'Cast', 'MatMulInteger']);
    expect(makerOf(made, 'y').attributes).toEqual([int('to', DataType.float16)]);
    const { scales } = weightOf(made, products(made)[0] as Node);
    expect(scales.dtype).toBe('float32');
    expect(made.graph.nodes.some(({ inputs, opType }) => opType === 'Cast' && inputs[0] === 'x')).toBe(false);
  });

  it.each([STATIC, DYNAMIC])('quantizes what was cast to float32 where scales are float32: $form', (form) => {
    const made = halves();
    quantize(made, form);
    const cast = made.graph.nodes.find(({ inputs, opType }) => opType === 'Cast' && inputs[0] === 'x');
    expect(cast?.attributes).toEqual([int('to', DataType.float32)]);
    expect(makerOf(made, 'y').attributes).toEqual([int('to', DataType.float16)]);
  });

  it('has a smallest scale that is a normal half', async () => {
    const made = halves();
    quantize(made, { ...DYNAMIC, scaleType: 'float16' } as Form);
    const max = made.graph.nodes.find(({ opType }) => opType === 'Max') as Node;
    const least = made.graph.initializers.get(max.inputs[1] as string) as Tensor;
    expect(new Uint16Array((await read(least)).slice().buffer)[0]).toBe(0x0400);
  });
});

it('leaves what is no linear alone', () => {
  const made = model({ nodes: [node('MatMul', ['x', 'z'], 'y')], inputs: ['x', 'z'], outputs: ['y'] });
  quantize(made, DYNAMIC);
  expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['MatMul']);
});
