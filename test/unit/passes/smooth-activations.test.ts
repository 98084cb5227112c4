import { describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { int, ints } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import { type Dim, Graph, Model, type Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { graphText } from '../../../src/ir/text.js';
import { float32ToHalf, halfToFloat32 } from '../../../src/numerics/half.js';
import { isSmoothable, smoothActivations } from '../../../src/passes/smooth-activations.js';
import { read } from '../../helpers/source.js';
import { node, readFloats, value } from '../helpers/graphs.js';

const C = 4;
const TOKENS: Dim[] = ['batch', 'tokens', C];
const FACTORS = Float32Array.of(2, 0.5, 4, 1);
const INVERSE = [0.5, 2, 0.25, 1];
/** What they make of the constants 1, 2, 3, 4. */
const PRODUCTS = [0.5, 4, 0.75, 4];

interface Parts {
  readonly nodes: Node[];
  readonly constants?: readonly Tensor[];
  readonly shapes?: Record<string, readonly Dim[]>;
  readonly outputs?: readonly string[];
  readonly type?: DataTypeName;
}

const floats = (name: string, dims: readonly number[]): Tensor =>
  Tensor.float32(
    name,
    dims,
    Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i + 1),
  );

function modelOf({ nodes, constants = [], shapes = {}, outputs = ['y'], type = 'float32' }: Parts): Model {
  const made = new Set(['', 'in', ...constants.map(({ name }) => name), ...nodes.flatMap((each) => each.outputs)]);
  const free = new Set(nodes.flatMap(({ inputs }) => inputs).filter((name) => !made.has(name)));
  const graph = new Graph({
    name: 'test',
    nodes,
    initializers: [...constants],
    // What nothing here makes comes from without.
    inputs: [{ name: 'in', dtype: type, dims: TOKENS }, ...[...free].map(value)],
    outputs: outputs.map(value),
    valueInfo: Object.entries(shapes).map(([name, dims]) => ({ name, dtype: type, dims })),
  });
  return new Model({ irVersion: 10, opsets: [{ domain: '', version: 21 }], graph });
}

interface Outcome {
  readonly model: Model;
  readonly did: string | undefined;
  /** Nodes, as text. */
  readonly nodes: string[];
  /** By output. */
  readonly changed: ReadonlyMap<string, Linear>;
}

/** Smooths what the linears with these outputs read, which is the same for all of them; and once more, which changes nothing. */
function smooth(
  model: Model,
  outputs: readonly string[] = ['y'],
  factors = FACTORS,
  fixed: readonly string[] = [],
): Outcome {
  const linears = findLinears(model.graph);
  const activations = [{ linears: linears.filter(({ output }) => outputs.includes(output)), factors }];
  const writable = linears.filter(({ output }) => !fixed.includes(output));
  return run(model, activations, writable);
}

function run(
  model: Model,
  activations: Parameters<typeof smoothActivations>[0]['activations'],
  writable: readonly Linear[],
): Outcome {
  const changed = new Map<Node, Linear>();
  const pass = smoothActivations({ activations, writable, changed });
  const did = pass.run(model);
  const text = graphText(model);
  const once = new Map(changed);
  expect(pass.run(model)).toBeUndefined();
  expect(graphText(model)).toBe(text);
  expect(changed).toEqual(once);
  expectValid(model);
  const nodes = text.split('\n').filter((line) => / = \w+\(/.test(line));
  return {
    model,
    did,
    nodes: nodes.map((line) => line.replace(/\).*/, ')')),
    changed: new Map([...changed.values()].map((linear) => [linear.node.outputs[0] as string, linear])),
  };
}

/** Whether every value is made before it is read, and once. */
function expectValid({ graph }: Model): void {
  const known = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys()]);
  for (const { inputs, outputs } of graph.nodes) {
    expect(inputs.filter((name) => name !== '' && !known.has(name))).toEqual([]);
    expect(outputs.filter((name) => known.has(name))).toEqual([]);
    for (const name of outputs) known.add(name);
  }
  expect(graph.outputs.filter(({ name }) => !known.has(name))).toEqual([]);
}

/** The factors that a changed linear has gained, by the side they are along. */
function gained(linear: Linear | undefined): Promise<[string, number[]][]> {
  const factors = linear?.factors ?? [];
  return Promise.all(
    factors.map(async ({ along, values, divides }): Promise<[string, number[]]> => {
      expect(divides).toBe(false);
      return [along, await readFloats(values)];
    }),
  );
}

const constantOf = ({ model }: Outcome, name: string): Promise<number[]> =>
  readFloats(model.graph.initializers.get(name) as Tensor);

const gelu = (): Parts => ({
  nodes: [node('Gelu', ['in'], 'x'), node('MatMul', ['x', 'w'], 'y')],
  constants: [floats('w', [C, 3])],
});

describe('smooth-activations', () => {
  it('multiplies the constants of a norm, and the weight takes the factors', async () => {
    const made = smooth(
      modelOf({
        nodes: [node('LayerNormalization', ['in', 'scale', 'bias'], 'x'), node('MatMul', ['x', 'w'], 'y')],
        constants: [floats('scale', [C]), floats('bias', [C]), floats('w', [C, 3])],
      }),
    );
    expect(made.did).toBe('smoothed 1 activation, 1 of them where they are made');
    expect(made.nodes).toEqual(['x = LayerNormalization(in, scale_smoothed, bias_smoothed)', 'y = MatMul(x, w)']);
    expect(await constantOf(made, 'scale_smoothed')).toEqual(PRODUCTS);
    expect(await constantOf(made, 'bias_smoothed')).toEqual(PRODUCTS);
    // The constants themselves may have other readers.
    expect(await constantOf(made, 'scale')).toEqual([1, 2, 3, 4]);
    expect([...made.changed.keys()]).toEqual(['y']);
    expect(made.changed.get('y')).toMatchObject({ activation: 'x', weight: { name: 'w' } });
    expect(await gained(made.changed.get('y'))).toEqual([['in', [...FACTORS]]]);
  });

  it('puts a Mul behind a constant that lies in a file', () => {
    const scale = new Tensor('scale', 'float32', [C], { kind: 'external', location: 'f', offset: 0, length: 16 });
    const made = smooth(
      modelOf({
        nodes: [node('LayerNormalization', ['in', 'scale'], 'x'), node('MatMul', ['x', 'w'], 'y')],
        constants: [scale, floats('w', [C, 3])],
      }),
    );
    expect(made.nodes[0]).toBe('scale_smoothed = Mul(scale, scale_smoothing)');
  });

  it('multiplies a modulation, which is the same for all tokens', async () => {
    const made = smooth(
      modelOf({
        nodes: [
          node('Identity', ['temb'], 'shift'),
          node('Add', ['temb', 'one'], 'gain'),
          node('Div', ['in', 'deviation'], 'normed'),
          node('Mul', ['normed', 'gain'], 'scaled'),
          node('Add', ['scaled', 'shift'], 'x'),
          node('MatMul', ['x', 'w'], 'y'),
        ],
        constants: [floats('one', []), floats('w', [C, 3]), floats('temb', [1, 1, C]), floats('deviation', [1])],
        shapes: { shift: ['batch', 1, C], gain: ['batch', 1, C] },
      }),
    );
    expect(made.nodes.slice(3)).toEqual([
      'gain_smoothed = Mul(gain, gain_smoothing)',
      'scaled = Mul(normed, gain_smoothed)',
      'shift_smoothed = Mul(shift, shift_smoothing)',
      'x = Add(scaled, shift_smoothed)',
      'y = MatMul(x, w)',
    ]);
    expect(await constantOf(made, 'gain_smoothing')).toEqual(INVERSE);
  });

  it.each([
    [
      'MatMul and Add',
      () => [node('MatMul', ['in', 'v'], 'p'), node('Add', ['p', 'bias'], 'x')],
      [3, C],
      'Add(p, bias_smoothed)',
    ],
    ['Gemm', () => [node('Gemm', ['in', 'v', 'bias'], 'x', [int('transB', 1)])], [C, 3], 'Gemm(in, v, bias_smoothed)'],
  ] as const)('scales the linear before it, and its bias: %s', async (_, maker, dims, biased) => {
    const made = smooth(
      modelOf({
        nodes: [...maker(), node('MatMul', ['x', 'w'], 'y')],
        constants: [floats('v', dims), floats('bias', [C]), floats('w', [C, 3])],
      }),
    );
    expect(made.nodes).toContain(`x = ${biased}`);
    expect(await constantOf(made, 'bias_smoothed')).toEqual(PRODUCTS);
    const [{ outputs }] = maker() as [Node];
    const [product] = outputs as [string];
    expect([...made.changed.keys()].sort()).toEqual([product, 'y'].sort());
    expect(await gained(made.changed.get(product))).toEqual([['out', INVERSE]]);
    expect(made.changed.get(product)?.activation).toBe('in');
    expect(await gained(made.changed.get('y'))).toEqual([['in', [...FACTORS]]]);
  });

  it('goes through an attention to the linear that makes its values', async () => {
    const heads: Dim[] = ['batch', 'tokens', 2, 2];
    const byHead: Dim[] = ['batch', 2, 'tokens', 2];
    const perm = ints('perm', [0, 2, 1, 3]);
    const made = smooth(
      modelOf({
        nodes: [
          node('MatMul', ['in', 'v'], 'p'),
          node('Add', ['p', 'bias'], 'biased'),
          node('Reshape', ['biased', 'to'], 'split'),
          node('Transpose', ['split'], 'values', [perm]),
          node('MatMul', ['queries', 'keys'], 'scores'),
          node('Softmax', ['scores'], 'probabilities'),
          node('MatMul', ['probabilities', 'values'], 'means'),
          node('Transpose', ['means'], 'turned', [perm]),
          node('Reshape', ['turned', 'from'], 'x'),
          node('MatMul', ['x', 'w'], 'y'),
        ],
        constants: [
          ...[floats('v', [C, C]), floats('bias', [C]), floats('w', [C, 3])],
          ...[Tensor.int64('to', [4], [0, 0, 2, 2]), Tensor.int64('from', [3], [0, 0, C])],
        ],
        shapes: { p: TOKENS, biased: TOKENS, split: heads, values: byHead, means: byHead, turned: heads, x: TOKENS },
        outputs: ['y'],
      }),
    );
    expect(made.did).toBe('smoothed 1 activation, 1 of them where they are made');
    expect(made.nodes.filter((line) => line.includes('_smoothed ='))).toEqual([]);
    expect(await constantOf(made, 'bias_smoothed')).toEqual(PRODUCTS);
    expect(await gained(made.changed.get('p'))).toEqual([['out', INVERSE]]);
  });

  it('puts a Mul behind what is nonlinear', async () => {
    const made = smooth(modelOf(gelu()));
    expect(made.did).toBe('smoothed 1 activation, 0 of them where they are made');
    expect(made.nodes).toEqual(['x = Gelu(in)', 'x_smoothed = Mul(x, x_smoothing)', 'y = MatMul(x_smoothed, w)']);
    expect(await constantOf(made, 'x_smoothing')).toEqual(INVERSE);
    expect(made.changed.get('y')?.activation).toBe('x_smoothed');
    expect(await gained(made.changed.get('y'))).toEqual([['in', [...FACTORS]]]);
  });

  const norm = (): Node => node('LayerNormalization', ['in', 'scale'], 'x');
  const constants = (): Tensor[] => [floats('scale', [C]), floats('w', [C, 3]), floats('v', [C, 3])];

  it('puts a Mul before linears whose input something else reads', () => {
    const nodes = () => [norm(), node('MatMul', ['x', 'w'], 'y'), node('MatMul', ['x', 'v'], 'z')];
    const made = smooth(modelOf({ nodes: nodes(), constants: constants(), outputs: ['y', 'z'] }));
    expect(made.nodes).toEqual([
      'x = LayerNormalization(in, scale)',
      'x_smoothed = Mul(x, x_smoothing)',
      'y = MatMul(x_smoothed, w)',
      'z = MatMul(x, v)',
    ]);
    expect([...made.changed.keys()]).toEqual(['y']);
    // Both together are all that reads it.
    const both = smooth(modelOf({ nodes: nodes(), constants: constants(), outputs: ['y', 'z'] }), ['y', 'z']);
    expect(both.nodes).toEqual(['x = LayerNormalization(in, scale_smoothed)', 'y = MatMul(x, w)', 'z = MatMul(x, v)']);
    expect([...both.changed.keys()]).toEqual(['y', 'z']);
  });

  it('puts one Mul before all linears of an activation, the first of them included', () => {
    const made = smooth(
      modelOf({
        nodes: [
          node('Gelu', ['in'], 'x'),
          node('MatMul', ['x', 'v'], 'z'),
          node('Relu', ['z'], 'r'),
          node('MatMul', ['x', 'w'], 'y'),
        ],
        constants: constants(),
        outputs: ['y', 'r'],
      }),
      ['y', 'z'],
    );
    expect(made.nodes.slice(1, 3)).toEqual(['x_smoothed = Mul(x, x_smoothing)', 'z = MatMul(x_smoothed, v)']);
    expect(made.nodes.filter((line) => line.includes('Mul(x,'))).toHaveLength(1);
  });

  it('puts a Mul before linears whose input is an output of the graph, or read by a subgraph', () => {
    const nodes = () => [norm(), node('MatMul', ['x', 'w'], 'y')];
    const output = smooth(modelOf({ nodes: nodes(), constants: constants(), outputs: ['y', 'x'] }));
    expect(output.nodes).toContain('x_smoothed = Mul(x, x_smoothing)');
    const branch = new Graph({
      name: 'branch',
      nodes: [node('Relu', ['x'], 'inner')],
      initializers: [],
      inputs: [],
      outputs: [value('inner')],
    });
    const choice = node('If', ['condition'], 'z', [{ name: 'then_branch', type: 'graph', value: branch }]);
    const captured = smooth(
      modelOf({
        nodes: [...nodes(), choice],
        constants: [...constants(), floats('condition', [])],
        outputs: ['y', 'z'],
      }),
    );
    expect(captured.nodes).toContain('x_smoothed = Mul(x, x_smoothing)');
    expect(captured.nodes[0]).toBe('x = LayerNormalization(in, scale)');
  });

  it('puts a Mul behind a modulation of unknown shape, and behind a linear whose weight stays', () => {
    const modulated = smooth(
      modelOf({
        nodes: [node('Mul', ['in', 'gain'], 'x'), node('MatMul', ['x', 'w'], 'y')],
        constants: [floats('w', [C, 3])],
        shapes: {},
        outputs: ['y'],
      }),
    );
    expect(modulated.nodes).toContain('x_smoothed = Mul(x, x_smoothing)');
    const nodes = [node('MatMul', ['in', 'v'], 'x'), node('MatMul', ['x', 'w'], 'y')];
    const kept = smooth(modelOf({ nodes, constants: [floats('v', [C, C]), floats('w', [C, 3])] }), ['y'], FACTORS, [
      'x',
    ]);
    expect(kept.nodes).toContain('x_smoothed = Mul(x, x_smoothing)');
    expect([...kept.changed.keys()]).toEqual(['y']);
  });

  it('has a linear that is smoothed on both sides with the factors of both', async () => {
    const model = modelOf({
      nodes: [
        node('LayerNormalization', ['in', 'scale'], 'x'),
        node('MatMul', ['x', 'v'], 'h'),
        node('MatMul', ['h', 'w'], 'y'),
      ],
      constants: [floats('scale', [C]), floats('v', [C, C]), floats('w', [C, 3])],
    });
    const second = Float32Array.of(8, 8, 0.125, 1);
    for (const order of [(all: Linear[]) => all, (all: Linear[]) => all.toReversed()]) {
      const copy = modelOf({
        nodes: model.graph.nodes.map((each) => node(each.opType, [...each.inputs], each.outputs[0] as string)),
        constants: [...model.graph.initializers.values()],
      });
      const linears = findLinears(copy.graph);
      const activations = order(linears).map((linear) => ({
        linears: [linear],
        factors: linear.output === 'h' ? FACTORS : second,
      }));
      const made = run(copy, activations, linears);
      expect(made.did).toBe('smoothed 2 activations, 2 of them where they are made');
      expect(made.changed.get('h')?.activation).toBe('x');
      expect((await gained(made.changed.get('h'))).sort()).toEqual([
        ['in', [...FACTORS]],
        ['out', [0.125, 0.125, 8, 1]],
      ]);
      expect(await gained(made.changed.get('y'))).toEqual([['in', [...second]]]);
    }
  });

  it('keeps the factors that a weight had', async () => {
    const made = smooth(
      modelOf({
        nodes: [node('Gelu', ['in'], 'x'), node('Mul', ['w', 'gain'], 'scaled'), node('MatMul', ['x', 'scaled'], 'y')],
        constants: [floats('w', [C, 3]), floats('gain', [3])],
      }),
    );
    expect(await gained(made.changed.get('y'))).toEqual([
      ['out', [1, 2, 3]],
      ['in', [...FACTORS]],
    ]);
  });

  it('gives two activations of one value a Mul each', () => {
    const model = modelOf({
      nodes: [node('Gelu', ['in'], 'x'), node('MatMul', ['x', 'w'], 'y'), node('MatMul', ['x', 'v'], 'z')],
      constants: constants(),
      outputs: ['y', 'z'],
    });
    const linears = findLinears(model.graph);
    const activations = linears.map((linear) => ({ linears: [linear], factors: FACTORS }));
    const { nodes, did } = run(model, activations, linears);
    expect(did).toBe('smoothed 2 activations, 0 of them where they are made');
    expect(nodes).toEqual([
      'x = Gelu(in)',
      'x_smoothed = Mul(x, x_smoothing)',
      'y = MatMul(x_smoothed, w)',
      'x_smoothed_1 = Mul(x, x_smoothing_1)',
      'z = MatMul(x_smoothed_1, v)',
    ]);
  });

  it('does nothing where there is nothing to do', () => {
    const model = modelOf(gelu());
    const before = graphText(model);
    expect(smoothActivations({ activations: [], writable: [], changed: new Map() }).run(model)).toBeUndefined();
    expect(graphText(model)).toBe(before);
  });
});

describe('types', () => {
  const stored = (name: string, type: DataTypeName, dims: readonly number[]): Tensor => {
    const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i + 1);
    if (type === 'float16') return Tensor.fromBytes(name, type, dims, asBytes(float32ToHalf(values)));
    if (type === 'float64') return Tensor.float64(name, dims, [...values]);
    if (type === 'bfloat16') {
      return Tensor.fromBytes(
        name,
        type,
        dims,
        asBytes(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16)),
      );
    }
    return Tensor.float32(name, dims, values);
  };

  it('of factors are those of what they multiply', async () => {
    const made = smooth(
      modelOf({
        nodes: [node('LayerNormalization', ['in', 'scale', 'bias'], 'x'), node('MatMul', ['x', 'w'], 'y')],
        constants: ['scale', 'bias'].map((name) => stored(name, 'float16', [C])).concat(stored('w', 'float16', [C, 3])),
        type: 'float16',
      }),
    );
    const product = made.model.graph.initializers.get('scale_smoothed') as Tensor;
    expect(product).toMatchObject({ dtype: 'float16', dims: [C] });
    expect([...halfToFloat32(new Uint16Array((await read(product)).slice().buffer))]).toEqual(PRODUCTS);
    const explicit = smooth(
      modelOf({
        nodes: [node('Gelu', ['in'], 'x'), node('MatMul', ['x', 'w'], 'y')],
        constants: [stored('w', 'float16', [C, 3])],
        type: 'float16',
      }),
    );
    expect(explicit.model.graph.initializers.get('x_smoothing')?.dtype).toBe('float16');
  });

  it('of factors are those on either side of a Cast', () => {
    const made = smooth(
      modelOf({
        nodes: [
          node('LayerNormalization', ['in', 'scale'], 'normed'),
          node('Cast', ['normed'], 'x', [int('to', DataType.float16)]),
          node('MatMul', ['x', 'w'], 'y'),
        ],
        constants: [stored('scale', 'float32', [C]), stored('w', 'float16', [C, 3])],
      }),
    );
    expect(made.model.graph.initializers.get('scale_smoothed')?.dtype).toBe('float32');
  });

  it.each(['bfloat16', 'float64'] as const)(
    'that have no factors, as %s, are left as they are behind a Cast',
    (type) => {
      const made = smooth(
        modelOf({
          nodes: [
            node('LayerNormalization', ['in', 'scale'], 'normed'),
            node('Cast', ['normed'], 'x', [int('to', DataType.float32)]),
            node('MatMul', ['x', 'w'], 'y'),
          ],
          constants: [stored('scale', type, [C]), stored('w', 'float32', [C, 3])],
          type,
        }),
      );
      expect(made.nodes).toEqual([
        'normed = LayerNormalization(in, scale)',
        'x = Cast(normed)',
        'x_smoothed = Mul(x, x_smoothing)',
        'y = MatMul(x_smoothed, w)',
      ]);
      expect(made.model.graph.initializers.get('x_smoothing')?.dtype).toBe('float32');
    },
  );

  it('of FP16 are what the activation is really divided by: the weight is multiplied with just that', async () => {
    // The reciprocals of 3 and of 7 are no FP16 values.
    const made = smooth(
      modelOf({
        nodes: [node('Gelu', ['in'], 'x'), node('MatMul', ['x', 'w'], 'y')],
        constants: [stored('w', 'float16', [C, 3])],
        type: 'float16',
      }),
      ['y'],
      Float32Array.of(3, 7, 0.125, 1000),
    );
    const written = made.model.graph.initializers.get('x_smoothing') as Tensor;
    const inverse = halfToFloat32(new Uint16Array((await read(written)).slice().buffer));
    const [[, given]] = (await gained(made.changed.get('y'))) as [[string, number[]]];
    for (const [k, factor] of inverse.entries()) expect(factor * (given[k] as number)).toBeCloseTo(1, 6);
  });

  it.each<[string, DataTypeName | undefined, Linear['kind'], boolean]>([
    ['a product of FP32', 'float32', 'MatMul', true],
    ['a product of FP16', 'float16', 'Gemm', true],
    ['a product of BF16', 'bfloat16', 'MatMul', false],
    ['a product of an unknown type', undefined, 'MatMul', false],
    ['a convolution', 'float32', 'Conv', false],
  ])('tell what can be smoothed: %s', (_, computeType, kind, expected) => {
    const [linear] = findLinears(modelOf(gelu()).graph) as [Linear];
    expect(isSmoothable({ ...linear, computeType, kind })).toBe(expected);
  });
});
