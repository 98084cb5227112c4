import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int } from '../../../src/ir/attribute.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graph, node } from '../helpers/graphs.js';

const weight = (name: string, dims: number[]): Tensor =>
  Tensor.float32(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1)));

const transposed = (from: string, to: string) =>
  node('Transpose', [from], to, [{ name: 'perm', type: 'ints', value: [1, 0] }]);

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
        activation: 'x',
        output: 'y',
        weight: stored,
        weightInput: 1,
        transposed: false,
        computeType: 'float32',
        inFeatures: 3,
        outFeatures: 5,
        channelAxis: 1,
      },
    ]);
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
    expect(linear).toMatchObject({ transposed: true, inFeatures: 3, outFeatures: 5, channelAxis: 1 });
    expect(linear?.weight.dims).toEqual([5, 3]);
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
    { transB: 0, viaTranspose: false, dims: [3, 5], channelAxis: 1 },
    { transB: 1, viaTranspose: false, dims: [5, 3], channelAxis: 0 },
    { transB: 0, viaTranspose: true, dims: [5, 3], channelAxis: 1 },
    { transB: 1, viaTranspose: true, dims: [3, 5], channelAxis: 0 },
  ])('reads a Gemm from 3 to 5 features: $transB, $viaTranspose', ({ transB, viaTranspose, dims, channelAxis }) => {
    const [linear] = findLinears(
      graph({
        nodes: [
          ...(viaTranspose ? [transposed('w', 't')] : []),
          node('Gemm', ['x', viaTranspose ? 't' : 'w', 'bias'], 'y', [int('transB', transB)]),
        ],
        initializers: [weight('w', dims), weight('bias', [5])],
      }),
    );
    expect(linear).toMatchObject({ transposed: viaTranspose, inFeatures: 3, outFeatures: 5, channelAxis });
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
    expect(linear).toMatchObject({ kind: 'Conv', inFeatures: 16, outFeatures: 6, channelAxis: 0 });
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
    ['a weight that is computed', node('MatMul', ['x', 'scaled'], 'y')],
    ['a weight whose axes are not swapped', node('MatMul', ['x', 'straight'], 'y')],
    ['a missing weight', node('MatMul', ['x'], 'y')],
    ['a product of integers', node('MatMulInteger', ['x', 'integers'], 'y')],
    ['a Conv without a kernel', node('Conv', ['x', 'w'], 'y')],
  ])('leaves out %s', (_, candidate) => {
    const made = graph({
      nodes: [
        node('Mul', ['w', 'w'], 'scaled'),
        node('Transpose', ['w'], 'straight', [{ name: 'perm', type: 'ints', value: [0, 1] }]),
        candidate,
      ],
      initializers: [
        weight('w', [2, 2]),
        weight('cube', [2, 2, 2]),
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
