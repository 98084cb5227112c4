import { describe, expect, it } from 'vitest';
import { countLeftovers, findLeftovers, type Leftover } from '../../../src/analyze/leftovers.js';
import { findLinears } from '../../../src/analyze/linears.js';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graph, node } from '../helpers/graphs.js';

const zeros = (name: string, ...dims: number[]): Tensor =>
  Tensor.float32(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1)));

const WEIGHTS = [
  zeros('w', 64, 64),
  zeros('packed', 64, 192),
  zeros('cube', 2, 64, 64),
  zeros('kernel', 8, 8, 8, 8),
  zeros('long', 4096),
  zeros('small', 31, 33),
  zeros('bias', 64),
  zeros('rnn', 1, 64, 64),
];

const build = (nodes: Node[]): Graph =>
  graph({ nodes, initializers: WEIGHTS, inputs: ['x', 'condition', 'ids'], outputs: ['y'] });

const left = (made: Graph): Leftover[] => findLeftovers(made, findLinears(made));

const UNKNOWN = 'wanq does not know this form';
const CONTRIB = { domain: 'com.microsoft' };

const holding = (name: string, value: Graph): Attribute => ({ name, type: 'graph', value });

describe('findLeftovers names', () => {
  it.each<[string, Node, string, number]>([
    [
      'an Attention of onnxruntime with packed weights',
      node('Attention', ['x', 'packed', 'bias'], 'y', [], CONTRIB),
      'com.microsoft.Attention',
      64 * 192,
    ],
    ['an Einsum', node('Einsum', ['x', 'w'], 'y'), 'Einsum', 4096],
    ['a constant on the left of a MatMul', node('MatMul', ['w', 'x'], 'y'), 'MatMul', 4096],
    ['a MatMul by a weight of three axes', node('MatMul', ['x', 'cube'], 'y'), 'MatMul', 8192],
    ['a Gemm of a transposed activation', node('Gemm', ['x', 'w', 'bias'], 'y', [int('transA', 1)]), 'Gemm', 4096],
    ['a ConvTranspose', node('ConvTranspose', ['x', 'kernel'], 'y'), 'ConvTranspose', 4096],
    ['an LSTM with two weights', node('LSTM', ['x', 'rnn', 'rnn'], 'y'), 'LSTM', 8192],
    ['a MatMul of ONNX by its full domain', node('MatMul', ['w', 'x'], 'y', [], { domain: 'ai.onnx' }), 'MatMul', 4096],
    [
      'an operator of somebody’s own',
      node('Experts', ['x', 'cube'], 'y', [], { domain: 'com.example' }),
      'com.example.Experts',
      8192,
    ],
    [
      'a FusedMatMul whose batches lie elsewhere',
      node('FusedMatMul', ['x', 'w'], 'y', [int('transBatchA', 1)], CONTRIB),
      'com.microsoft.FusedMatMul',
      4096,
    ],
  ])('%s', (_, made, operator, parameters) => {
    expect(left(build([made]))).toEqual([{ node: made, operator, why: UNKNOWN, parameters }]);
  });

  it('operators whose weight comes through others', () => {
    const made = build([
      node('Transpose', ['w'], 't'),
      node('MatMul', ['t', 'x'], 'a'),
      node('Constant', [], 'c', [{ name: 'value', type: 'tensor', value: zeros('', 64, 64) }]),
      node('Einsum', ['x', 'c'], 'y'),
    ]);
    expect(left(made).map(({ operator, parameters }) => [operator, parameters])).toEqual([
      ['MatMul', 4096],
      ['Einsum', 4096],
    ]);
  });

  it('those with an optional input left out', () => {
    expect(left(build([node('Attention', ['x', 'packed', '', ''], 'y', [], CONTRIB)]))).toHaveLength(1);
  });

  it('all of them in the order of the nodes, the graph’s own first', () => {
    const branch = graph({ nodes: [node('MatMul', ['x', 'w'], 't')], outputs: ['t'] });
    const made = build([
      node('If', ['condition'], 'a', [holding('then_branch', branch)]),
      node('Einsum', ['a', 'w'], 'b'),
      node('MatMul', ['b', 'w'], 'c'),
      node('MatMul', ['w', 'c'], 'y'),
    ]);
    expect(left(made).map(({ node: each }) => each.name)).toEqual(['b', 'y', 't']);
    expect(findLinears(made).map(({ output }) => output)).toEqual(['c']);
  });
});

describe('findLeftovers looks inside branches and bodies', () => {
  const product = (weight = 'w', nodes: Node[] = [], initializers: Tensor[] = []): Graph =>
    graph({ nodes: [...nodes, node('MatMul', ['x', weight], 't')], initializers, outputs: ['t'] });
  const inside = (inner: Graph, opType = 'If'): Node => node(opType, ['condition'], 'y', [holding('body', inner)]);

  it.each(['If', 'Loop', 'Scan'])('of %s, where any product is one', (opType) => {
    const why = `inside a branch or body of ${opType}`;
    expect(left(build([inside(product(), opType)]))).toMatchObject([{ operator: 'MatMul', why, parameters: 4096 }]);
  });

  it.each<[string, Graph]>([
    ['the graph around it', product('w')],
    ['the branch', product('own', [], [zeros('own', 64, 64)])],
    [
      'a Constant in the branch',
      product('c', [node('Constant', [], 'c', [{ name: 'value', type: 'tensor', value: zeros('', 64, 64) }])]),
    ],
    ['a chain in the branch', product('turn', [node('Transpose', ['own'], 'turn')], [zeros('own', 64, 64)])],
    ['a chain around it', product('turned')],
    ['a Constant around it', product('constant')],
    ['a weight of three axes', product('cube')],
  ])('with a weight of %s', (_, inner) => {
    const made = build([
      node('Transpose', ['w'], 'turned'),
      node('Constant', [], 'constant', [{ name: 'value', type: 'tensor', value: zeros('', 64, 64) }]),
      inside(inner),
    ]);
    expect(left(made)).toHaveLength(1);
  });

  it('however deep, and says where the outermost is', () => {
    const deep = inside(
      graph({ nodes: [inside(product('turned'), 'If')], initializers: [zeros('other', 64, 64)] }),
      'Loop',
    );
    const made = build([node('Transpose', ['w'], 'turned'), deep]);
    expect(left(made)).toMatchObject([
      { operator: 'MatMul', why: 'inside a branch or body of Loop', parameters: 4096 },
    ]);
  });

  it('in a list of graphs', () => {
    const made = build([
      node('Switch', ['condition'], 'y', [{ name: 'g', type: 'graphs', value: [product(), product()] }]),
    ]);
    expect(left(made)).toHaveLength(2);
  });

  it('and finds none where nothing is stored', () => {
    expect(left(build([inside(product('x')), inside(graph({ nodes: [node('Relu', ['x'], 't')] }))]))).toEqual([]);
  });
});

describe('findLeftovers does not name', () => {
  it.each<[string, Node[]]>([
    ['linears', [node('MatMul', ['x', 'w'], 'a'), node('Gemm', ['a', 'w'], 'y', [int('transB', 1)])]],
    ['a FusedMatMul that is a linear', [node('FusedMatMul', ['x', 'w'], 'y', [], CONTRIB)]],
    ['a Conv that is a linear', [node('Conv', ['x', 'kernel'], 'y')]],
    ['products of activations', [node('MatMul', ['x', 'x'], 'y')]],
    ['products of constants, which are computed once', [node('MatMul', ['w', 'w'], 'y')]],
    ['biases', [node('Add', ['x', 'w'], 'y')]],
    ['weights of a normalization', [node('LayerNormalization', ['x', 'long', 'long'], 'y')]],
    ['tables', [node('Gather', ['w', 'ids'], 'y'), node('GatherElements', ['w', 'ids'], 'z')]],
    ['what rearranges a weight', [node('Transpose', ['w'], 't', [ints('perm', [1, 0])]), node('Add', ['x', 't'], 'y')]],
    ...[
      ['SkipLayerNormalization', 'w'],
      ['SkipSimplifiedLayerNormalization', 'w'],
      ['GroupNorm', 'long'],
      ['BiasGelu', 'w'],
      ['FastGelu', 'w'],
      ['BiasSplitGelu', 'w'],
      ['BiasAdd', 'w'],
      ['RotaryEmbedding', 'w'],
      ['EmbedLayerNormalization', 'w'],
      ['GatherND', 'w'],
    ].map(([opType = '', weight = '']): [string, Node[]] => [
      `${opType} of onnxruntime`,
      [node(opType, ['x', weight, 'long'], 'y', [], CONTRIB)],
    ]),
    ['small constants', [node('Einsum', ['x', 'small'], 'y')]],
    ['long vectors', [node('Einsum', ['x', 'long'], 'y')]],
    ['an Attention of ONNX, which has no weights', [node('Attention', ['x', 'x', 'x'], 'y')]],
  ])('%s', (_, nodes) => {
    const made = build(nodes);
    expect(left(made)).toEqual([]);
  });
});

describe('countLeftovers', () => {
  it('counts by operator and reason, the first first', () => {
    const branch = (): Graph => graph({ nodes: [node('Einsum', ['x', 'w'], 't')], outputs: ['t'] });
    const made = build([
      node('MatMul', ['w', 'x'], 'a'),
      node('Einsum', ['x', 'w'], 'b'),
      node('MatMul', ['w', 'a'], 'c'),
      node('If', ['condition'], 'y', [holding('then_branch', branch()), holding('else_branch', branch())]),
    ]);
    expect(countLeftovers(made, findLinears(made))).toEqual([
      { operator: 'MatMul', why: UNKNOWN, count: 2 },
      { operator: 'Einsum', why: UNKNOWN, count: 1 },
      { operator: 'Einsum', why: 'inside a branch or body of If', count: 2 },
    ]);
  });
});
