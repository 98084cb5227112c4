import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { gatedInputs } from '../../../src/analyze/gated-ffn.js';
import { int } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { graph, node } from '../helpers/graphs.js';
import { wipe } from '../helpers/wipe.js';

const ZEROS = Tensor.float32('', [4, 6], new Float32Array(24));
const BACK = Tensor.float32('c', [6, 4], new Float32Array(24));

/** A graph over the weights a and b `[4, 6]` and c `[6, 4]`. */
function made(nodes: Node[], weights: readonly string[] = ['a', 'b'], others: readonly Tensor[] = []): Graph {
  const initializers = [...weights.map((name) => ZEROS.renamed(name)), BACK, ...others];
  return graph({ nodes, initializers, inputs: ['x', 'z'], outputs: ['y'] });
}

const found = (of: Graph): string[] => gatedInputs(of).map((linear) => linear.weight.name);

const cast = (input: string, output: string, to: 'float32' | 'float16'): Node =>
  node('Cast', [input], output, [int('to', DataType[to])]);

/** gate(x a) * (x b), multiplied with c. */
function gated(activation: (input: string, output: string) => Node[], left = 'x', right = 'x'): Node[] {
  return [
    node('MatMul', [left, 'a'], 'p'),
    ...activation('p', 'g'),
    node('MatMul', [right, 'b'], 'q'),
    node('Mul', ['g', 'q'], 'm'),
    node('MatMul', ['m', 'c'], 'y'),
  ];
}

const gelu = (input: string, output: string): Node[] => [node('Gelu', [input], output)];

/** What torch's exporter makes of UMT5's tanh GELU. */
const tanhGelu = (input: string, output: string): Node[] => [
  node('Mul', [input, 'half'], 'g1'),
  node('Pow', [input, 'three'], 'g2'),
  node('Mul', ['g2', 'k'], 'g3'),
  node('Add', [input, 'g3'], 'g4'),
  node('Mul', ['g4', 's'], 'g5'),
  node('Tanh', ['g5'], 'g6'),
  node('Add', ['g6', 'one'], 'g7'),
  node('Mul', ['g1', 'g7'], output),
];
const SCALARS = ['half', 'three', 'k', 's', 'one'].map((name) => Tensor.float32(name, [], [1]));

describe('gated feed-forwards without names', () => {
  it('are two linears of one value, multiplied with each other, one through an activation', () => {
    expect(found(made(gated(gelu)))).toEqual(['a', 'b']);
    expect(found(made(gated(tanhGelu), ['a', 'b'], SCALARS))).toEqual(['a', 'b']);
    expect(found(made(gated((input, output) => [node('QuickGelu', [input], output)])))).toEqual(['a', 'b']);
  });

  it('are found whichever side is activated, and through Casts and biases', () => {
    const flipped = [
      cast('x', 'x16', 'float16'),
      cast('x16', 'x32', 'float32'),
      node('MatMul', ['x', 'a'], 'p'),
      node('Add', ['p', 'bias'], 'pb'),
      node('MatMul', ['x32', 'b'], 'q'),
      node('Relu', ['q'], 'g'),
      node('Mul', ['pb', 'g'], 'm'),
      node('MatMul', ['m', 'c'], 'y'),
    ];
    expect(found(made(flipped, ['a', 'b'], [Tensor.float32('bias', [6], new Float32Array(6))]))).toEqual(['a', 'b']);
  });

  it.each<[string, Node[]]>([
    ['no activation between', gated((input, output) => [node('Identity', [input], output)])],
    ['two inputs', gated(gelu, 'x', 'z')],
    [
      'both activated',
      [
        ...gated(gelu).slice(0, 3),
        node('Tanh', ['q'], 't'),
        node('Mul', ['g', 't'], 'm'),
        node('MatMul', ['m', 'c'], 'y'),
      ],
    ],
    [
      'an activation that multiplies with its own input',
      [
        node('MatMul', ['x', 'a'], 'p'),
        node('Sigmoid', ['p'], 's'),
        node('Mul', ['p', 's'], 'm'),
        node('MatMul', ['m', 'c'], 'y'),
        node('MatMul', ['x', 'b'], 'unread'),
      ],
    ],
    [
      'a plain feed-forward',
      [node('MatMul', ['x', 'a'], 'p'), node('Gelu', ['p'], 'g'), node('MatMul', ['g', 'c'], 'y')],
    ],
  ])('are not found where there is %s', (_, nodes) => {
    expect(found(made(nodes))).toEqual([]);
  });
});

describe('names', () => {
  const plain = (names: readonly [string, string]): Graph =>
    made([node('MatMul', ['x', names[0]], 'p'), node('MatMul', ['x', names[1]], 'y')], names);

  it.each<[string, string, string]>([
    [
      'transformers',
      'encoder.block.0.layer.1.DenseReluDense.wi_0.weight',
      'encoder.block.0.layer.1.DenseReluDense.wo.weight',
    ],
    [
      'transformers',
      'encoder.block.23.layer.1.DenseReluDense.wi_1.weight',
      'encoder.block.0.layer.0.SelfAttention.q.weight',
    ],
    ['the Wan repository', 'blocks.0.ffn.gate.0.weight', 'blocks.0.ffn.fc2.weight'],
    ['the Wan repository', 'blocks.3.ffn.fc1.weight', 'blocks.3.attn.q.weight'],
  ])('of %s tell: %s, and not %s', (_, wanted, other) => {
    expect(found(plain([wanted, other]))).toEqual([wanted]);
  });

  it('of a node or in its metadata tell too', () => {
    const scopes = new Map([
      ['pkg.torch.onnx.name_scopes', "['', 'encoder.block.0.layer.1.DenseReluDense.wi_1', 'linear']"],
    ]);
    const nodes = [
      node('MatMul', ['x', 'a'], 'p', [], { name: '/encoder/block.0/layer.1/DenseReluDense/wi_0/MatMul' }),
      node('MatMul', ['x', 'b'], 'q', [], { metadata: scopes }),
      node('MatMul', ['q', 'c'], 'y', [], { name: '/encoder/block.0/layer.1/DenseReluDense/wi_01/MatMul' }),
    ];
    expect(found(made(nodes))).toEqual(['a', 'b']);
  });
});

it('finds the same in the micro text encoder with and without its names', async () => {
  const { graph: named } = await loadGraph(path.join(MICRO_PIPELINE, 'text_encoder', 'model.onnx'));
  const inputs = gatedInputs(named).map(({ node: of }) => of);
  expect(inputs.map((of) => of.name)).toEqual(['node_linear_4', 'node_linear_5', 'node_linear_11', 'node_linear_12']);
  const { graph: wiped, origins } = wipe(named, 7);
  expect(gatedInputs(wiped).map(({ node: of }) => origins.get(of))).toEqual(inputs);
});
