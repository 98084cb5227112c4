import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import type { NodeFields } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graph, node } from '../helpers/graphs.js';

const weight = (name: string, dims: number[]): Tensor =>
  Tensor.float32(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1)));

const transposed = (from: string, to: string) =>
  node('Transpose', [from], to, [{ name: 'perm', type: 'ints', value: [1, 0] }]);

const CONTRIB = { domain: 'com.microsoft' };

describe('findLinears', () => {
  it('finds a MatMul and reads its shape', () => {
    const matmul = node('MatMul', ['x', 'blocks.0.ffn.0.weight'], 'y');
    const stored = weight('blocks.0.ffn.0.weight', [3, 5]);
    expect(findLinears(graph({ nodes: [matmul], initializers: [stored], inputs: ['x'] }))).toEqual([
      {
        node: matmul,
        kind: 'MatMul',
        role: 'blocks.0.ffn.up',
        evidence: 'weight name',
        confidence: 'high',
        activation: 'x',
        output: 'y',
        weight: stored,
        matrix: stored,
        transposed: false,
        factors: [],
        chain: [],
        computeType: 'float32',
        inFeatures: 3,
        outFeatures: 5,
      },
    ]);
  });

  it.each(['MatMul', 'Gemm', 'Conv'])('finds no %s that has a second output', (operator) => {
    const odd = node(operator, ['x', 'w'], 'y');
    const dims = operator === 'Conv' ? [3, 5, 1] : [3, 5];
    const parts = { nodes: [odd], initializers: [weight('w', dims)], inputs: ['x'] };
    expect(findLinears(graph(parts))).toHaveLength(1);
    odd.outputs.push('z');
    expect(findLinears(graph(parts))).toEqual([]);
  });

  it('follows the weight through Identity, Cast and Transpose', () => {
    const [linear] = findLinears(
      graph({
        nodes: [
          node('Identity', ['w'], 'a'),
          transposed('a', 'b'),
          node('Cast', ['b'], 'c'),
          node('MatMul', ['x', 'c'], 'y'),
        ],
        initializers: [weight('w', [5, 3])],
      }),
    );
    expect(linear).toMatchObject({ transposed: true, inFeatures: 3, outFeatures: 5, factors: [] });
    expect(linear?.chain).toEqual(['Identity', 'Transpose', 'Cast']);
    expect(linear?.weight.dims).toEqual([5, 3]);
    expect(linear?.matrix.dims).toEqual([5, 3]);
  });

  it('knows that two transposes cancel, and that no perm reverses the axes', () => {
    const [linear] = findLinears(
      graph({
        nodes: [transposed('w', 'a'), node('Transpose', ['a'], 'b'), node('MatMul', ['x', 'b'], 'y')],
        initializers: [weight('w', [3, 5])],
      }),
    );
    expect(linear).toMatchObject({ transposed: false, inFeatures: 3, outFeatures: 5 });
  });

  it.each([
    { transB: 0, viaTranspose: false, dims: [3, 5], stored: false },
    { transB: 1, viaTranspose: false, dims: [5, 3], stored: true },
    { transB: 0, viaTranspose: true, dims: [5, 3], stored: true },
    { transB: 1, viaTranspose: true, dims: [3, 5], stored: false },
  ])(
    'reads products from 3 to 5 features: transB $transB, Transpose $viaTranspose',
    ({ transB, viaTranspose, dims, stored }) => {
      const read = viaTranspose ? 't' : 'w';
      const [gemm, fused] = findLinears(
        graph({
          nodes: [
            ...(viaTranspose ? [transposed('w', 't')] : []),
            node('Gemm', ['x', read, 'bias'], 'y', [int('transB', transB)]),
            node('FusedMatMul', ['x', read], 'z', [int('transB', transB)], CONTRIB),
          ],
          initializers: [weight('w', dims), weight('bias', [5])],
        }),
      );
      const expected = { transposed: stored, matrix: { dims }, factors: [], inFeatures: 3, outFeatures: 5 };
      expect(gemm).toMatchObject({ kind: 'Gemm', ...expected });
      expect(fused).toMatchObject({ kind: 'FusedMatMul', ...expected });
    },
  );

  it.each<[string, Partial<NodeFields>]>([
    ['Gemm', {}],
    ['FusedMatMul', CONTRIB],
  ])('takes the alpha of a %s for a factor of its weight', (opType, fields) => {
    const alpha = (value: number): Attribute => ({ name: 'alpha', type: 'float', value });
    const [half, one] = findLinears(
      graph({
        nodes: [node(opType, ['x', 'w'], 'y', [alpha(0.5)], fields), node(opType, ['x', 'w'], 'z', [alpha(1)], fields)],
        initializers: [weight('w', [3, 5])],
      }),
    );
    expect(half?.factors).toEqual([{ along: 'all', values: Tensor.float32('alpha', [], [0.5]), divides: false }]);
    expect(one?.factors).toEqual([]);
  });

  it.each<[string, number, string[]]>([
    ['MatMul', 0, ['in', 'out', 'all']],
    ['Gemm', 0, ['in', 'out', 'all']],
    ['Gemm', 1, ['out', 'in', 'all']],
    ['FusedMatMul', 1, ['out', 'in', 'all']],
  ])('says of the factors of a weight along which features they lie: %s, transB %i', (opType, transB, along) => {
    const domain = opType === 'FusedMatMul' ? 'com.microsoft' : '';
    const [linear] = findLinears(
      graph({
        nodes: [
          node('Mul', ['w', 'rows'], 'a'),
          node('Mul', ['columns', 'a'], 'b'),
          node('Mul', ['b', 'one'], 'c'),
          node(opType, ['x', 'c'], 'y', transB ? [int('transB', 1)] : [], { domain }),
        ],
        initializers: [weight('w', [3, 5]), weight('rows', [3, 1]), weight('columns', [5]), weight('one', [1])],
      }),
    );
    expect(linear?.factors.map((factor) => factor.along)).toEqual(along);
    expect(linear?.factors.map(({ values }) => values.name)).toEqual(['rows', 'columns', 'one']);
    expect(linear?.chain).toEqual(['Mul', 'Mul', 'Mul']);
  });

  it('finds a weight in a Constant node, and names it after the value', () => {
    const constant = node('Constant', [], 'blocks.3.ffn.2.weight', [
      { name: 'value', type: 'tensor', value: weight('', [3, 5]) },
    ]);
    const [linear] = findLinears(graph({ nodes: [constant, node('MatMul', ['x', 'blocks.3.ffn.2.weight'], 'y')] }));
    expect(linear).toMatchObject({ role: 'blocks.3.ffn.down', evidence: 'weight name', inFeatures: 3, outFeatures: 5 });
    expect(linear?.weight.name).toBe('blocks.3.ffn.2.weight');
  });

  it('finds a weight whose axes a Transpose leaves where they are', () => {
    const [linear] = findLinears(
      graph({
        nodes: [node('Transpose', ['w'], 't', [ints('perm', [0, 1])]), node('MatMul', ['x', 't'], 'y')],
        initializers: [weight('w', [3, 5])],
      }),
    );
    expect(linear).toMatchObject({ transposed: false, inFeatures: 3, outFeatures: 5, chain: ['Transpose'] });
  });

  it.each<[string, number[], string | undefined]>([
    ['no cast', [], 'float16'],
    ['a cast to float32', [1], 'float32'],
    ['casts to bfloat16 and float32, in this order', [16, 1], 'float32'],
    ['a cast to a type that does not exist', [999], undefined],
  ])('reads the type of the product after %s', (_, casts, computeType) => {
    const names = ['w', ...casts.map((_cast, i) => `cast${i}`)];
    const [linear] = findLinears(
      graph({
        nodes: [
          ...casts.map((to, i) => node('Cast', [names[i] as string], names[i + 1] as string, [int('to', to)])),
          node('MatMul', ['x', names.at(-1) as string], 'y'),
        ],
        initializers: [Tensor.fromBytes('w', 'float16', [2, 2], new Uint8Array(8))],
      }),
    );
    expect(linear?.computeType).toBe(computeType);
  });

  it('counts the kernel of a Conv among its input features', () => {
    const [linear] = findLinears(
      graph({ nodes: [node('Conv', ['x', 'w'], 'y')], initializers: [weight('w', [6, 4, 1, 2, 2])] }),
    );
    expect(linear).toMatchObject({ kind: 'Conv', inFeatures: 16, outFeatures: 6, transposed: true, factors: [] });
    expect(linear?.matrix.dims).toEqual([6, 16]);
    expect(linear?.weight.dims).toEqual([6, 4, 1, 2, 2]);
  });

  it('takes the role from a bias that is added afterwards', () => {
    const [linear] = findLinears(
      graph({
        nodes: [node('MatMul', ['x', 'val_1'], 'y'), node('Add', ['blocks.1.ffn.2.bias', 'y'], 'z')],
        initializers: [weight('val_1', [3, 5]), weight('blocks.1.ffn.2.bias', [5])],
      }),
    );
    expect(linear).toMatchObject({ role: 'blocks.1.ffn.down', evidence: 'bias name' });
  });

  it('keeps the order of the nodes', () => {
    const found = findLinears(
      graph({
        nodes: [node('MatMul', ['x', 'a'], 'p'), node('Relu', ['p'], 'q'), node('Gemm', ['q', 'b'], 'r')],
        initializers: [weight('b', [2, 2]), weight('a', [2, 2])],
      }),
    );
    expect(found.map(({ output }) => output)).toEqual(['p', 'r']);
  });

  it.each([
    ['two activations', node('MatMul', ['x', 'x2'], 'y')],
    ['two constants', node('MatMul', ['w', 'w'], 'y')],
    ['the constant on the left', node('MatMul', ['w', 'x'], 'y')],
    ['a constant of three dimensions', node('MatMul', ['x', 'cube'], 'y')],
    ['integers', node('MatMul', ['x', 'integers'], 'y')],
    ['another domain', node('MatMul', ['x', 'w'], 'y', [], { domain: 'com.example' })],
    ['a transposed activation', node('Gemm', ['x', 'w'], 'y', [int('transA', 1)])],
    ['a weight that is computed', node('MatMul', ['x', 'squared'], 'y')],
    ['a weight that something is added to', node('MatMul', ['x', 'moved'], 'y')],
    ['a FusedMatMul of no domain', node('FusedMatMul', ['x', 'w'], 'y')],
    ['an activation that is transposed on the way', node('FusedMatMul', ['x', 'w'], 'y', [int('transA', 1)], CONTRIB)],
    ['batches in other places', node('FusedMatMul', ['x', 'w'], 'y', [int('transBatchA', 1)], CONTRIB)],
    ['batches in other places of the weight', node('FusedMatMul', ['x', 'w'], 'y', [int('transBatchB', 1)], CONTRIB)],
    ['a Conv whose kernel is scaled', node('Conv', ['x', 'kernel-scaled'], 'y')],
    ['a Conv whose kernel is reshaped', node('Conv', ['x', 'kernel-turned'], 'y')],
    ['an operator named as a property of all objects', node('constructor', ['x', 'w'], 'y')],
    ['another one', node('__proto__', ['x', 'w'], 'y')],
    ['a missing weight', node('MatMul', ['x'], 'y')],
    ['a product of integers', node('MatMulInteger', ['x', 'integers'], 'y')],
    ['a Conv without a kernel', node('Conv', ['x', 'w'], 'y')],
  ])('leaves out %s', (_, candidate) => {
    const made = graph({
      nodes: [
        node('Mul', ['w', 'w'], 'squared'),
        node('Add', ['w', 'w'], 'moved'),
        node('Mul', ['cube', 'one'], 'kernel-scaled'),
        node('Transpose', ['cube'], 'kernel-turned'),
        candidate,
      ],
      initializers: [
        weight('w', [2, 2]),
        weight('cube', [2, 2, 2]),
        weight('one', [1]),
        Tensor.fromBytes('integers', 'int8', [2, 2], new Uint8Array(4)),
      ],
      inputs: ['x', 'x2'],
    });
    expect(findLinears(made)).toEqual([]);
  });

  it('ends on a cycle of nodes that pass a value through', () => {
    const made = graph({
      nodes: [node('Identity', ['b'], 'a'), node('Identity', ['a'], 'b'), node('MatMul', ['x', 'a'], 'y')],
    });
    expect(findLinears(made)).toEqual([]);
  });
});
