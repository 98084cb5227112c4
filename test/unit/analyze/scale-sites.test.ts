import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { scaleSites } from '../../../src/analyze/scale-sites.js';
import { findAttentions } from '../../../src/analyze/structure/attention.js';
import { int, ints } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import { type Dim, Graph, type Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { indexGraph, subgraphs, valuesRead } from '../../../src/ir/traverse.js';
import { node, value } from '../helpers/graphs.js';

const C = 6;
const [HEADS, EACH] = [2, 3];
const TOKENS: Dim[] = ['batch', 'tokens', C];

interface Parts {
  readonly nodes: Node[];
  /** Dimensions of the constants. */
  readonly constants?: Record<string, readonly number[]>;
  readonly shapes?: Record<string, readonly Dim[]>;
  readonly outputs?: readonly string[];
  /** Outputs of linears that may not be changed. */
  readonly fixed?: readonly string[];
  readonly channels?: number;
}

/** Where `x` can be scaled, whose readers are the linears that multiply it; each site as text. */
function sitesOf({ nodes, constants = {}, shapes = {}, outputs = [], fixed = [], channels = C }: Parts): unknown {
  const readers = ['q', 'k'].map((name) => node('MatMul', ['x', `weight_${name}`], name));
  const weights = { weight_q: [channels, 4], weight_k: [channels, 4], ...constants };
  const graph = new Graph({
    name: 'test',
    nodes: [...nodes, ...readers],
    initializers: Object.entries(weights).map(([name, dims]) =>
      Tensor.float32(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1))),
    ),
    inputs: [{ name: 'in', dtype: 'float32', dims: TOKENS }],
    outputs: ['q', 'k', ...outputs].map(value),
    valueInfo: Object.entries(shapes).map(([name, dims]) => ({ name, dtype: 'float32', dims })),
  });
  const index = indexGraph(graph);
  const linears = findLinears(graph, index).filter(({ output }) => !fixed.includes(output));
  const products = new Set(findLinears(graph, index).map((linear) => linear.node));
  const captured = nodes.filter((each) => subgraphs(each).length > 0).flatMap((each) => [...valuesRead(each)]);
  const sites = scaleSites('x', channels, new Set(readers), {
    graph,
    index,
    shapes: new Map([...graph.valueInfo, ...graph.inputs].flatMap(({ name, dims }) => (dims ? [[name, dims]] : []))),
    exposed: new Set([...graph.outputs.map(({ name }) => name), ...captured]),
    attentions: findAttentions(graph, index, (each) => products.has(each)),
    linears: new Map(linears.map((linear) => [linear.output, linear])),
  });
  return (
    sites && {
      operands: sites.operands.map((operand) => `${operand.node.inputs[operand.input]} of ${operand.node.name}`),
      linears: sites.linears.map(({ output }) => output),
    }
  );
}

const norm = (input: string, output: string, parameters: string[], axis = -1): Node =>
  node('LayerNormalization', [input, ...parameters], output, [int('axis', axis)]);

describe('what is scaled in constants', () => {
  it('is an affine norm: its scale and its bias', () => {
    const constants = { scale: [C], bias: [C] };
    expect(sitesOf({ nodes: [norm('in', 'x', ['scale', 'bias'])], constants })).toEqual({
      operands: ['scale of x', 'bias of x'],
      linears: [],
    });
    expect(sitesOf({ nodes: [norm('in', 'x', ['scale'])], constants })).toEqual({
      operands: ['scale of x'],
      linears: [],
    });
  });

  it('is a norm whose axis is the last, however it is counted', () => {
    const of = (axis: number, shapes: Record<string, readonly Dim[]>) =>
      sitesOf({ nodes: [norm('in', 'x', ['scale'], axis)], constants: { scale: [C] }, shapes });
    expect(of(2, { x: TOKENS })).toBeDefined();
    // Over tokens too, or over who knows what.
    expect(of(1, { x: TOKENS })).toBeUndefined();
    expect(of(2, {})).toBeUndefined();
  });

  it.each<[string, string[], readonly number[]]>([
    ['a vector', ['in', 'c'], [C]],
    ['a row for every token', ['c', 'in'], [1, 9, C]],
  ])('is a Mul by %s', (_, inputs, dims) => {
    expect(sitesOf({ nodes: [node('Mul', inputs, 'x')], constants: { c: dims } })).toEqual({
      operands: ['c of x'],
      linears: [],
    });
  });

  it.each(['Add', 'Sub', 'Sum'])('are all operands of %s', (opType) => {
    const nodes = [norm('in', 'normed', ['scale']), node(opType, ['normed', 'c'], 'x')];
    expect(sitesOf({ nodes, constants: { scale: [C], c: [C] } })).toEqual({
      operands: ['scale of normed', 'c of x'],
      linears: [],
    });
    expect(sitesOf({ nodes: [node(opType, ['in', 'c'], 'x')], constants: { c: [C] } })).toBeUndefined();
  });

  it('is no scalar, and no vector of other length', () => {
    for (const dims of [[], [1], [C, 1], [C + 1]]) {
      expect(sitesOf({ nodes: [node('Mul', ['in', 'c'], 'x')], constants: { c: dims } })).toBeUndefined();
    }
  });

  it('is a Constant node', () => {
    const tensor = Tensor.float32('', [C], new Float32Array(C));
    const constant = node('Constant', [], 'c', [{ name: 'value', type: 'tensor', value: tensor }]);
    expect(sitesOf({ nodes: [constant, node('Mul', ['in', 'c'], 'x')] })).toEqual({
      operands: ['c of x'],
      linears: [],
    });
  });

  it('is what stands before a Cast, a CastLike or an Identity', () => {
    const nodes = [
      norm('in', 'normed', ['scale', 'bias']),
      node('Cast', ['normed'], 'half', [int('to', DataType.float16)]),
      node('CastLike', ['half', 'in'], 'like'),
      node('Identity', ['like'], 'x'),
    ];
    expect(sitesOf({ nodes, constants: { scale: [C], bias: [C] } })).toEqual({
      operands: ['scale of normed', 'bias of normed'],
      linears: [],
    });
  });
});

describe('a modulated norm', () => {
  const shapes = { shift: ['batch', 1, C], gain: ['batch', 1, C] } as const;
  const modulation = [
    node('Identity', ['temb'], 'shift'),
    node('Identity', ['temb'], 'raw_gain'),
    node('Add', ['raw_gain', 'one'], 'gain'),
  ];
  const modulated = [node('Mul', ['normed', 'gain'], 'scaled'), node('Add', ['scaled', 'shift'], 'x')];

  it('is scaled in the modulation, which is the same for all tokens', () => {
    const nodes = [...modulation, node('Div', ['in', 'deviation'], 'normed'), ...modulated];
    expect(sitesOf({ nodes, constants: { one: [] }, shapes })).toEqual({
      operands: ['gain of scaled', 'shift of x'],
      linears: [],
    });
  });

  it('is scaled in the norm where that has constants, which costs nothing when the graph runs', () => {
    const nodes = [...modulation, norm('in', 'normed', ['scale', 'bias']), ...modulated];
    expect(sitesOf({ nodes, constants: { one: [], scale: [C], bias: [C] }, shapes })).toEqual({
      operands: ['scale of normed', 'bias of normed', 'shift of x'],
      linears: [],
    });
  });

  it('is not where the modulation is of every token, or of unknown shape', () => {
    const nodes = [...modulation, node('Div', ['in', 'deviation'], 'normed'), ...modulated];
    for (const dims of [TOKENS, ['batch', null, C], ['batch', 1, 1], [C]] satisfies (readonly Dim[])[]) {
      expect(sitesOf({ nodes, constants: { one: [] }, shapes: { ...shapes, shift: dims } })).toBeUndefined();
    }
    expect(sitesOf({ nodes, constants: { one: [] } })).toBeUndefined();
  });
});

describe('a linear before it', () => {
  it('is scaled in its output channels, and in its bias', () => {
    const product = node('MatMul', ['in', 'w'], 'product');
    const constants = { w: [4, C], bias: [C] };
    expect(sitesOf({ nodes: [node('MatMul', ['in', 'w'], 'x')], constants })).toEqual({ operands: [], linears: ['x'] });
    expect(sitesOf({ nodes: [product, node('Add', ['bias', 'product'], 'x')], constants })).toEqual({
      operands: ['bias of x'],
      linears: ['product'],
    });
  });

  it('is scaled where it is a Gemm, with the bias of its own', () => {
    const gemm = (...bias: string[]): Node => node('Gemm', ['in', 'w', ...bias], 'x', [int('transB', 1)]);
    const constants = { w: [C, 4], bias: [C], scalar: [1] };
    expect(sitesOf({ nodes: [gemm()], constants })).toEqual({ operands: [], linears: ['x'] });
    expect(sitesOf({ nodes: [gemm('')], constants })).toEqual({ operands: [], linears: ['x'] });
    expect(sitesOf({ nodes: [gemm('bias')], constants })).toEqual({ operands: ['bias of x'], linears: ['x'] });
    expect(sitesOf({ nodes: [gemm('scalar')], constants })).toBeUndefined();
  });

  it('is not where its weight stays as it is, or where it is a convolution', () => {
    const constants = { w: [4, C], kernel: [C, 4, 1] };
    expect(sitesOf({ nodes: [node('MatMul', ['in', 'w'], 'x')], constants, fixed: ['x'] })).toBeUndefined();
    expect(sitesOf({ nodes: [node('Conv', ['in', 'kernel'], 'x')], constants })).toBeUndefined();
  });

  it('is not where it makes another number of channels, which an operand widens', () => {
    const nodes = [node('MatMul', ['in', 'w'], 'gate'), node('Mul', ['gate', 'in'], 'x')];
    expect(sitesOf({ nodes, constants: { w: [C, 1] } })).toBeUndefined();
    const sum = [node('MatMul', ['in', 'w'], 'gate'), node('Add', ['gate', 'bias'], 'x')];
    expect(sitesOf({ nodes: sum, constants: { w: [C, 1], bias: [C] } })).toBeUndefined();
  });
});

describe('what is not scaled where it is made', () => {
  const constants = { w: [4, C], scale: [C], bias: [C] };
  const product = node('MatMul', ['in', 'w'], 'product');

  it.each(['Gelu', 'Relu', 'Tanh', 'Softmax', 'Sqrt', 'Concat', 'Slice'])('what %s makes', (opType) => {
    expect(sitesOf({ nodes: [product, node(opType, ['product'], 'x')], constants })).toBeUndefined();
  });

  it('what an operator of another domain makes', () => {
    const made = node('Mul', ['in', 'scale'], 'x', [], { domain: 'com.example' });
    expect(sitesOf({ nodes: [made], constants })).toBeUndefined();
  });

  it('an input of the graph', () => {
    expect(sitesOf({ nodes: [node('Identity', ['in'], 'x')], constants })).toBeUndefined();
  });

  it('a value that something else reads, at any place on the way', () => {
    const nodes = [norm('in', 'normed', ['scale']), node('Add', ['normed', 'bias'], 'x')];
    for (const read of ['x', 'normed']) {
      expect(sitesOf({ nodes: [...nodes, node('Relu', [read], 'other')], constants })).toBeUndefined();
    }
  });

  it('a value that is an output of the graph, at any place on the way', () => {
    const nodes = [norm('in', 'normed', ['scale']), node('Add', ['normed', 'bias'], 'x')];
    expect(sitesOf({ nodes, constants })).toBeDefined();
    for (const output of ['x', 'normed']) expect(sitesOf({ nodes, constants, outputs: [output] })).toBeUndefined();
  });

  it('a value that a subgraph reads, at any place on the way', () => {
    const nodes = [norm('in', 'normed', ['scale']), node('Add', ['normed', 'bias'], 'x')];
    for (const captured of ['x', 'normed']) {
      const branch = new Graph({
        name: 'branch',
        nodes: [node('Relu', [captured], 'inner')],
        initializers: [],
        inputs: [],
        outputs: [value('inner')],
      });
      const choice = node('If', ['condition'], 'chosen', [{ name: 'then_branch', type: 'graph', value: branch }]);
      expect(sitesOf({ nodes: [...nodes, choice], constants })).toBeUndefined();
    }
  });

  it('a value that an operator reads twice: its factor would count twice', () => {
    expect(sitesOf({ nodes: [product, node('Mul', ['product', 'product'], 'x')], constants })).toBeUndefined();
    // Of a sum it could be done once; nothing of the kind is scaled twice.
    expect(sitesOf({ nodes: [product, node('Add', ['product', 'product'], 'x')], constants })).toBeUndefined();
  });
});

describe('the values of an attention', () => {
  const constants = { v: [4, C], bias: [C], to_heads: [4], from_heads: [3] };
  const heads: Dim[] = ['batch', 'tokens', HEADS, EACH];
  const byHead: Dim[] = ['batch', HEADS, 'tokens', EACH];
  const probabilities = [node('MatMul', ['queries', 'keys'], 'scores'), node('Softmax', ['scores'], 'probabilities')];
  const split = (input: string): Node[] => [
    node('Reshape', [input, 'to_heads'], 'split'),
    node('Transpose', ['split'], 'values', [ints('perm', [0, 2, 1, 3])]),
  ];
  const join = (input: string): Node[] => [
    node('Transpose', [input], 'turned', [ints('perm', [0, 2, 1, 3])]),
    node('Reshape', ['turned', 'from_heads'], 'x'),
  ];
  const shapes = {
    ...{ product: TOKENS, biased: TOKENS, split: heads, values: byHead, means: byHead, turned: heads, x: TOKENS },
    probabilities: ['batch', HEADS, 'tokens', 'tokens'],
  };
  const linear = [node('MatMul', ['in', 'v'], 'product'), node('Add', ['product', 'bias'], 'biased')];
  const composed = [
    ...linear,
    ...split('biased'),
    ...probabilities,
    node('MatMul', ['probabilities', 'values'], 'means'),
    ...join('means'),
  ];

  it('are scaled in the linear that makes them, and in its bias', () => {
    expect(sitesOf({ nodes: composed, constants, shapes })).toEqual({
      operands: ['bias of biased'],
      linears: ['product'],
    });
  });

  it('are where one operator is all of the attention', () => {
    const fused = [
      ...linear,
      ...split('biased'),
      node('Attention', ['queries', 'keys', 'values'], 'means'),
      ...join('means'),
    ];
    expect(sitesOf({ nodes: fused, constants, shapes })).toEqual({
      operands: ['bias of biased'],
      linears: ['product'],
    });
    const masked = fused.map((each) =>
      each.opType === 'Attention' ? node('Attention', ['queries', 'keys', 'values', 'mask'], 'means') : each,
    );
    expect(sitesOf({ nodes: masked, constants, shapes })).toBeDefined();
  });

  it('are where one operator takes all heads in the last axis', () => {
    const fused = [
      ...linear,
      node('Attention', ['queries', 'keys', 'biased'], 'x', [int('q_num_heads', HEADS), int('kv_num_heads', HEADS)]),
    ];
    expect(sitesOf({ nodes: fused, constants, shapes })).toEqual({
      operands: ['bias of biased'],
      linears: ['product'],
    });
  });

  it('are through Casts, and without heads', () => {
    const single = [
      ...linear,
      node('Cast', ['biased'], 'half', [int('to', DataType.float16)]),
      ...probabilities,
      node('MatMul', ['probabilities', 'half'], 'means'),
      node('Cast', ['means'], 'x', [int('to', DataType.float32)]),
    ];
    const flat = { product: TOKENS, biased: TOKENS, half: TOKENS, means: TOKENS, x: TOKENS };
    expect(sitesOf({ nodes: single, constants, shapes: flat })).toEqual({
      operands: ['bias of biased'],
      linears: ['product'],
    });
  });

  it('are where tokens and batch lie in one axis of three', () => {
    const nodes = [
      ...linear,
      node('Reshape', ['biased', 'to_heads'], 'split'),
      node('Transpose', ['split'], 'values', [ints('perm', [1, 0, 2])]),
      ...probabilities,
      node('MatMul', ['probabilities', 'values'], 'means'),
      node('Transpose', ['means'], 'turned', [ints('perm', [1, 0, 2])]),
      node('Reshape', ['turned', 'from_heads'], 'x'),
    ];
    const flat = {
      ...{ biased: ['tokens', C], split: ['tokens', HEADS, EACH], values: [HEADS, 'tokens', EACH] },
      ...{ means: [HEADS, 'tokens', EACH], turned: ['tokens', HEADS, EACH], x: ['tokens', C] },
    } as const;
    expect(sitesOf({ nodes, constants, shapes: flat })).toEqual({ operands: ['bias of biased'], linears: ['product'] });
  });

  it.each(['biased', 'split', 'values', 'means', 'turned', 'x'])('are not where the shape of %s is missing', (name) => {
    const { [name as 'x']: _, ...others } = shapes;
    const known = sitesOf({ nodes: composed, constants, shapes: others });
    // What is not on either side of a Reshape tells nothing that is needed, but for the ranks at the product.
    expect(known, name).toBeUndefined();
  });

  it('are not where no shape is stated', () => {
    expect(sitesOf({ nodes: composed, constants })).toBeUndefined();
  });

  it('are not where the sizes of heads are unknown', () => {
    const symbolic = { ...shapes, split: ['batch', 'tokens', 'heads', EACH], turned: ['batch', 'tokens', null, EACH] };
    expect(sitesOf({ nodes: composed, constants, shapes: symbolic })).toBeUndefined();
  });

  it('are not in other layouts: channels of a head apart from each other', () => {
    const nodes = [
      ...linear,
      node('Reshape', ['biased', 'to_heads'], 'split'),
      node('Transpose', ['split'], 'values', [ints('perm', [0, 3, 1, 2])]),
      ...probabilities,
      node('MatMul', ['probabilities', 'values'], 'means'),
      ...join('means'),
    ];
    const interleaved = { ...shapes, split: ['batch', 'tokens', EACH, HEADS] };
    expect(sitesOf({ nodes, constants, shapes: interleaved })).toBeUndefined();
  });

  it('are not where tokens stand in the last axis', () => {
    const nodes = [
      ...linear,
      node('Reshape', ['biased', 'to_heads'], 'split'),
      node('Transpose', ['split'], 'values', [ints('perm', [0, 2, 3, 1])]),
      ...probabilities,
      node('MatMul', ['values', 'probabilities'], 'means'),
      node('Transpose', ['means'], 'turned', [ints('perm', [0, 3, 1, 2])]),
      node('Reshape', ['turned', 'from_heads'], 'x'),
    ];
    const columns: Dim[] = ['batch', HEADS, EACH, 'tokens'];
    expect(sitesOf({ nodes, constants, shapes: { ...shapes, values: columns, means: columns } })).toBeUndefined();
  });

  it('are not where heads are joined by another axis than they were split by', () => {
    const nodes = composed.map((each) =>
      each.name === 'turned' ? node('Transpose', ['means'], 'turned', [ints('perm', [0, 1, 2, 3])]) : each,
    );
    expect(sitesOf({ nodes, constants, shapes: { ...shapes, turned: byHead } })).toBeUndefined();
  });

  it('are not where they are the probabilities, the queries or the keys', () => {
    const swapped = composed.map((each) =>
      each.name === 'means' ? node('MatMul', ['values', 'probabilities'], 'means') : each,
    );
    expect(sitesOf({ nodes: swapped, constants, shapes })).toBeUndefined();
    const keys = [
      ...linear,
      ...split('biased'),
      node('Attention', ['queries', 'values', 'other'], 'means'),
      ...join('means'),
    ];
    expect(sitesOf({ nodes: keys, constants, shapes })).toBeUndefined();
    const both = [
      ...linear,
      ...split('biased'),
      node('Attention', ['queries', 'values', 'values'], 'means'),
      ...join('means'),
    ];
    expect(sitesOf({ nodes: both, constants, shapes })).toBeUndefined();
  });

  it.each(['product', 'biased', 'split', 'values', 'means', 'turned'])(
    'are not where something else reads %s',
    (read) => {
      expect(sitesOf({ nodes: [...composed, node('Relu', [read], 'other')], constants, shapes })).toBeUndefined();
    },
  );

  it.each(['product', 'biased', 'split', 'values', 'means', 'turned'])('are not where %s is an output', (output) => {
    expect(sitesOf({ nodes: composed, constants, shapes, outputs: [output] })).toBeUndefined();
  });

  it('are not where a product is no attention', () => {
    const nodes = composed.map((each) =>
      each.opType === 'Softmax' ? node('Relu', ['scores'], 'probabilities') : each,
    );
    expect(sitesOf({ nodes, constants, shapes })).toBeUndefined();
  });

  it('are not where several heads of queries share one of values', () => {
    const attributes = [int('q_num_heads', HEADS), int('kv_num_heads', 1)];
    const nodes = [
      node('MatMul', ['in', 'narrow'], 'product'),
      node('Attention', ['queries', 'keys', 'product'], 'x', attributes),
    ];
    const narrow = { product: ['batch', 'tokens', EACH], x: TOKENS };
    expect(sitesOf({ nodes, constants: { narrow: [4, EACH] }, shapes: narrow })).toBeUndefined();
  });

  it('are not where there are values of before beside them', () => {
    const fused = [
      ...linear,
      ...split('biased'),
      node('Attention', ['queries', 'keys', 'values', '', 'past_keys', 'past_values'], 'means'),
      ...join('means'),
    ];
    expect(sitesOf({ nodes: fused, constants, shapes })).toBeUndefined();
  });

  it('are not where the operator adds a bias of its own to them', () => {
    const attention = node(
      'MultiHeadAttention',
      ['queries', 'keys', 'biased', 'all_biases'],
      'means',
      [int('num_heads', HEADS)],
      {
        domain: 'com.microsoft',
      },
    );
    const nodes = [
      ...linear,
      attention,
      node('Reshape', ['means', 'to_heads'], 'turned'),
      node('Reshape', ['turned', 'from_heads'], 'x'),
    ];
    const flat = { biased: TOKENS, means: TOKENS, turned: heads, x: TOKENS };
    expect(sitesOf({ nodes, constants: { ...constants, all_biases: [3 * C] }, shapes: flat })).toBeUndefined();
  });

  it('are not where the product transposes them', () => {
    const product = node('FusedMatMul', ['probabilities', 'values'], 'means', [int('transB', 1)], {
      domain: 'com.microsoft',
    });
    const nodes = composed.map((each) => (each.name === 'means' ? product : each));
    expect(sitesOf({ nodes, constants, shapes })).toBeUndefined();
  });
});
