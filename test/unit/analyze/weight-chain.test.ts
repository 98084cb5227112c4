import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type WeightChain, weightChain } from '../../../src/analyze/weight-chain.js';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { chains, evaluate, flipped, type Grid, gridOf } from '../helpers/chains.js';
import { graph, model, node } from '../helpers/graphs.js';

const iota = (name: string, dims: number[]): Tensor =>
  Tensor.float32(
    name,
    dims,
    Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i + 1),
  );

/** `w` [2, 3], weights of more axes, factors, shapes and axes. */
const CONSTANTS: readonly Tensor[] = [
  iota('w', [2, 3]),
  iota('w6', [6]),
  iota('w123', [1, 2, 3]),
  iota('w1213', [1, 2, 1, 3]),
  iota('w16', [1, 6]),
  iota('w234', [2, 3, 4]),
  Tensor.float32('two', [], [2]),
  Tensor.float32('two1', [1], [2]),
  Tensor.float32('two11', [1, 1], [2]),
  Tensor.float32('rows', [2, 1], [2, 4]),
  Tensor.float32('columns', [3], [2, 4, 8]),
  Tensor.float32('columns1', [1, 3], [2, 4, 8]),
  Tensor.float32('cube', [1, 1, 1], [2]),
  Tensor.float32('cubes', [1, 2, 1], [2, 4]),
  iota('full', [2, 3]),
  Tensor.fromBytes('codes', 'int8', [2, 3], new Uint8Array(6)),
  Tensor.float64('doubles', [2, 3], [1, 2, 3, 4, 5, 6]),
  Tensor.int64('whole', [3], [1, 2, 3]),
  ...Object.entries({ '2 3': [2, 3], '3 2': [3, 2], '0 -1': [0, -1], '-1 3': [-1, 3], '-1': [-1], '0 0': [0, 0] })
    .concat(Object.entries({ '2 0': [2, 0], '4 2': [4, 2], '-1 -1': [-1, -1], '-2 -3': [-2, -3], '0 0 0': [0, 0, 0] }))
    .concat(Object.entries({ '2 3 1 1': [2, 3, 1, 1], '6 1': [6, 1], '2 1 3': [2, 1, 3], '12 2': [12, 2] }))
    .map(([name, values]) => Tensor.int64(name, [values.length], values)),
  Tensor.fromBytes('int32 2 3', 'int32', [2], asBytes(Int32Array.of(2, 3))),
  Tensor.fromBytes('uint8 2 3', 'uint8', [2], Uint8Array.of(2, 3)),
  ...[0, 1, -1].map((axis) => Tensor.int64(`axis ${axis}`, [1], [axis])),
  Tensor.int64('axes 0 2', [2], [0, 2]),
  Tensor.int64('axes 0 -2', [2], [0, -2]),
];

/** A graph with {@link CONSTANTS} and the inputs x and axes. */
const build = (nodes: Node[], initializers: readonly Tensor[] = CONSTANTS): Graph =>
  graph({ nodes, initializers: [...initializers], inputs: ['x', 'axes'] });

const follow = (made: Graph, name = 'v'): WeightChain | undefined => weightChain(name, made, indexGraph(made));

/** The value that a product reads, put together again of what was found. */
function readThrough({ matrix, transposed, factors }: WeightChain): Grid | undefined {
  if (!matrix) return undefined;
  const { dims, values } = transposed ? flipped(gridOf(matrix)) : gridOf(matrix);
  const columns = dims[1] as number;
  const scaled = values.map((value, i) => {
    const index = [Math.floor(i / columns), i % columns];
    return factors.reduce((product, { axis, values: each, divides }) => {
      const factor = gridOf(each).values[axis === null ? 0 : (index[axis] as number)] as number;
      return divides ? product / factor : product * factor;
    }, value);
  });
  return { dims, values: scaled };
}

/** A chain of nodes from one value to the next, the last one named v. */
function line(from: string, ...steps: [opType: string, inputs?: string[], attributes?: Attribute[]][]): Node[] {
  return steps.map(([opType, inputs = [], attributes = []], i) => {
    const source = i === 0 ? from : `v${i - 1}`;
    return node(opType, [source, ...inputs], i === steps.length - 1 ? 'v' : `v${i}`, attributes);
  });
}

const perm = (...axes: number[]): Attribute => ints('perm', axes);

/** What a chain makes of the stored weight; matrix: dims of the stored bytes seen as one. */
interface Found {
  readonly matrix: number[];
  readonly transposed?: boolean;
  readonly axes?: (0 | 1 | null)[];
}

describe('weightChain follows', () => {
  it.each<[string, string, Parameters<typeof line>[1][], Found]>([
    ['nothing at all', 'w', [], { matrix: [2, 3] }],
    ['Identity', 'w', [['Identity']], { matrix: [2, 3] }],
    ['Cast', 'w', [['Cast', [], [int('to', DataType.float16)]]], { matrix: [2, 3] }],
    ['CastLike', 'w', [['CastLike', ['two']]], { matrix: [2, 3] }],
    ['Transpose', 'w', [['Transpose', [], [perm(1, 0)]]], { matrix: [2, 3], transposed: true }],
    ['Transpose without perm', 'w', [['Transpose']], { matrix: [2, 3], transposed: true }],
    ['Transpose that leaves the axes', 'w', [['Transpose', [], [perm(0, 1)]]], { matrix: [2, 3] }],
    ['two that cancel', 'w', [['Transpose'], ['Transpose', [], [perm(1, 0)]]], { matrix: [2, 3] }],
    ['Squeeze by attribute', 'w123', [['Squeeze', [], [ints('axes', [0])]]], { matrix: [2, 3] }],
    ['Squeeze by attribute, from the end', 'w123', [['Squeeze', [], [ints('axes', [-3])]]], { matrix: [2, 3] }],
    ['Squeeze by input', 'w123', [['Squeeze', ['axis 0']]], { matrix: [2, 3] }],
    ['Squeeze by input of two axes', 'w1213', [['Squeeze', ['axes 0 -2']]], { matrix: [2, 3] }],
    ['Squeeze without axes', 'w1213', [['Squeeze']], { matrix: [2, 3] }],
    ['Squeeze with an input left out', 'w1213', [['Squeeze', ['']]], { matrix: [2, 3] }],
    ['Unsqueeze by attribute', 'w6', [['Unsqueeze', [], [ints('axes', [1])]]], { matrix: [6, 1] }],
    ['Unsqueeze by input', 'w6', [['Unsqueeze', ['axis 0']]], { matrix: [1, 6] }],
    ['Unsqueeze from the end', 'w6', [['Unsqueeze', ['axis -1']]], { matrix: [6, 1] }],
    [
      'both, one after the other',
      'w',
      [
        ['Unsqueeze', ['axes 0 2']],
        ['Squeeze', ['axes 0 2']],
      ],
      { matrix: [2, 3] },
    ],
    ['Reshape', 'w6', [['Reshape', ['2 3']]], { matrix: [2, 3] }],
    ['Reshape by 32-bit integers', 'w6', [['Reshape', ['int32 2 3']]], { matrix: [2, 3] }],
    ['Reshape with 0 and -1', 'w', [['Reshape', ['0 -1']]], { matrix: [2, 3] }],
    ['Reshape with -1 first', 'w6', [['Reshape', ['-1 3']]], { matrix: [2, 3] }],
    ['Reshape with zeros alone', 'w', [['Reshape', ['0 0']]], { matrix: [2, 3] }],
    [
      'Reshape of a transposed weight to its shape',
      'w',
      [['Transpose'], ['Reshape', ['3 2']]],
      { matrix: [2, 3], transposed: true },
    ],
    [
      'Reshape of a transposed weight with an axis more',
      'w',
      [['Transpose'], ['Reshape', ['0 0']], ['Transpose'], ['Reshape', ['2 1 3']], ['Squeeze']],
      { matrix: [2, 3] },
    ],
    [
      'Reshape there and back',
      'w',
      [
        ['Reshape', ['6 1']],
        ['Reshape', ['2 3']],
      ],
      { matrix: [2, 3] },
    ],
    ['Reshape with allowzero', 'w6', [['Reshape', ['2 3'], [int('allowzero', 1)]]], { matrix: [2, 3] }],
    ['Flatten', 'w1213', [['Flatten', [], [int('axis', 2)]]], { matrix: [2, 3] }],
    ['Flatten from the end', 'w1213', [['Flatten', [], [int('axis', -1)]]], { matrix: [2, 3] }],
    ['Flatten by its first axis', 'w234', [['Flatten']], { matrix: [2, 12] }],
    ['Flatten of nothing before', 'w', [['Flatten', [], [int('axis', 0)]]], { matrix: [1, 6] }],
    ['Flatten of nothing behind', 'w', [['Flatten', [], [int('axis', 2)]]], { matrix: [6, 1] }],
    ['a row and a column of one', 'w16', [['Transpose']], { matrix: [6, 1] }],
    ['weights of float64', 'doubles', [['Cast', [], [int('to', DataType.float32)]]], { matrix: [2, 3] }],
    ['Div by a scalar', 'w', [['Div', ['two']]], { matrix: [2, 3], axes: [null] }],
    ['Div by rows', 'w', [['Div', ['rows']]], { matrix: [2, 3], axes: [0] }],
    [
      'Div by columns, then Mul',
      'w',
      [
        ['Div', ['columns']],
        ['Mul', ['columns']],
      ],
      { matrix: [2, 3], axes: [1, 1] },
    ],
    ['Mul by a scalar', 'w', [['Mul', ['two']]], { matrix: [2, 3], axes: [null] }],
    ['Mul by one value', 'w', [['Mul', ['two1']]], { matrix: [2, 3], axes: [null] }],
    ['Mul by one value of two axes', 'w', [['Mul', ['two11']]], { matrix: [2, 3], axes: [null] }],
    ['Mul by rows', 'w', [['Mul', ['rows']]], { matrix: [2, 3], axes: [0] }],
    ['Mul by columns', 'w', [['Mul', ['columns']]], { matrix: [2, 3], axes: [1] }],
    ['Mul by columns of two axes', 'w', [['Mul', ['columns1']]], { matrix: [2, 3], axes: [1] }],
    [
      'Mul before a Transpose',
      'w',
      [['Mul', ['columns']], ['Transpose']],
      { matrix: [2, 3], transposed: true, axes: [0] },
    ],
    [
      'Mul behind a Transpose',
      'w',
      [['Transpose'], ['Mul', ['rows-flat']]],
      { matrix: [2, 3], transposed: true, axes: [1] },
    ],
    [
      'Mul of more axes, which a Squeeze takes away',
      'w123',
      [['Mul', ['cubes']], ['Squeeze']],
      { matrix: [2, 3], axes: [0] },
    ],
    [
      'several factors along the same axis and others',
      'w',
      [
        ['Mul', ['columns']],
        ['Mul', ['two']],
        ['Mul', ['columns1']],
        ['Mul', ['rows']],
      ],
      { matrix: [2, 3], axes: [1, null, 1, 0] },
    ],
    [
      'a factor whose axis is taken apart and put together again',
      'w',
      [['Mul', ['columns']], ['Reshape', ['2 3 1 1']], ['Squeeze']],
      { matrix: [2, 3], axes: [1] },
    ],
    [
      'all of them',
      'w1213',
      [
        ['Cast', [], [int('to', DataType.float32)]],
        ['Squeeze', ['axis 0']],
        ['Transpose', [], [perm(2, 1, 0)]],
        ['Identity'],
        ['Squeeze', [], [ints('axes', [1])]],
        ['Mul', ['rows-flat']],
        ['Reshape', ['3 2']],
        ['Flatten'],
        ['CastLike', ['two']],
      ],
      { matrix: [2, 3], transposed: true, axes: [1] },
    ],
  ])('%s', (_, from, steps, { matrix, transposed = false, axes = [] }) => {
    const made = build(line(from, ...steps), [...CONSTANTS, Tensor.float32('rows-flat', [2], [2, 4])]);
    const value = steps.length === 0 ? from : 'v';
    const chain = follow(made, value) as WeightChain;
    expect(chain.stored).toBe(made.initializers.get(from));
    expect(chain.matrix).toMatchObject({ name: from, dims: matrix });
    expect(chain.matrix?.data).toBe(chain.stored.data);
    expect(chain.transposed).toBe(transposed);
    expect(chain.factors.map(({ axis }) => axis)).toEqual(axes);
    const scaling = steps.map(([opType]) => opType).filter((opType) => opType === 'Mul' || opType === 'Div');
    expect(chain.factors.map(({ divides }) => (divides ? 'Div' : 'Mul'))).toEqual(scaling);
    expect(chain.steps).toEqual(steps.map(([opType]) => opType));
    expect(readThrough(chain)).toEqual(evaluate(value, made));
  });

  it.each(['two', 'two1', 'rows', 'columns', 'columns1'])('a factor on the left: %s', (factor) => {
    for (const behind of [false, true]) {
      const nodes = behind
        ? [node('Identity', ['w'], 'i'), node('Mul', [factor, 'i'], 'v')]
        : [node('Mul', [factor, 'w'], 'v')];
      const made = build(nodes);
      const chain = follow(made) as WeightChain;
      expect(chain.stored.name).toBe('w');
      expect(readThrough(chain)).toEqual(evaluate('v', made));
    }
  });

  it('a weight of as many axes as it had, without a matrix', () => {
    expect(follow(build(line('w234', ['Identity'])))).toMatchObject({ matrix: undefined, transposed: false });
    expect(follow(build([]), 'w6')).toMatchObject({ matrix: undefined });
  });

  it('elements that lie in another order, without a matrix', () => {
    const steps = line('w234', ['Transpose', [], [perm(0, 2, 1)]], ['Transpose', [], [perm(2, 0, 1)]]);
    expect(follow(build(steps))).toMatchObject({ matrix: undefined, transposed: false });
  });

  it.each([32, 33])('%i operators, of 32 at the most', (count) => {
    const made = build(line('w', ...Array.from({ length: count }, (): [string] => ['Identity'])));
    expect(follow(made)?.steps.length).toBe(count <= 32 ? count : undefined);
  });

  it('operators by the full name of their domain', () => {
    const made = build([node('Transpose', ['w'], 'v', [], { domain: 'ai.onnx' })]);
    expect(follow(made)).toMatchObject({ transposed: true });
  });

  it('shapes in a file that was read as a Buffer', () => {
    const written = model({ nodes: line('w6', ['Reshape', ['2 3']]), initializers: [...CONSTANTS], outputs: ['v'] });
    const { graph: read } = decodeModel(Buffer.from(encodeModel(written)));
    expect(follow(read)?.matrix?.dims).toEqual([2, 3]);
  });
});

describe('weightChain reads the type of the product', () => {
  const half = Tensor.fromBytes('half', 'float16', [2, 1], asBytes(float32ToHalf(Float32Array.of(1, 2))));
  const castTo = (dtype: DataTypeName): [string, string[], Attribute[]] => ['Cast', [], [int('to', DataType[dtype])]];

  it.each<[string, Parameters<typeof line>[1][], DataTypeName | undefined]>([
    ['nothing', [], 'float16'],
    ['Cast', [castTo('float32')], 'float32'],
    ['casts over others', [castTo('bfloat16'), castTo('float64'), castTo('float32')], 'float32'],
    ['Cast to integers', [castTo('int8')], 'int8'],
    ['CastLike of an initializer', [['CastLike', ['two']]], 'float32'],
    ['CastLike of an input', [['CastLike', ['x']]], 'float32'],
    ['CastLike of a value whose type is stated', [['CastLike', ['stated']]], 'bfloat16'],
    ['CastLike of a value whose type follows', [['CastLike', ['computed']]], 'float32'],
    ['CastLike of a value without a type', [['CastLike', ['untold']]], undefined],
    ['Cast behind that', [['CastLike', ['untold']], castTo('float32')], 'float32'],
    ['Cast to a type that does not exist', [['Cast', [], [int('to', 999)]]], undefined],
  ])('behind %s', (_, steps, computeType) => {
    const foreign = ['stated', 'untold'].map((name) => node('Custom', ['x'], name, [], { domain: 'com.example' }));
    const nodes = [node('Relu', ['x'], 'computed'), ...foreign, ...line('half', ...steps)];
    const made = build(nodes, [...CONSTANTS, half]);
    made.valueInfo.push({ name: 'stated', dtype: 'bfloat16', dims: null });
    expect(follow(made, steps.length === 0 ? 'half' : 'v')).toMatchObject({ computeType, stored: half });
  });
});

const tensorValue = (value: Tensor): Attribute => ({ name: 'value', type: 'tensor', value });
const floats = (name: string, value: number[]): Attribute => ({ name, type: 'floats', value });

describe('weightChain takes from a Constant node', () => {
  it('a weight, under the name of the value', () => {
    const made = build([node('Constant', [], 'c', [tensorValue(iota('inner', [2, 3]))]), ...line('c', ['Transpose'])]);
    const chain = follow(made) as WeightChain;
    expect(chain.stored).toMatchObject({ name: 'c', dims: [2, 3], dtype: 'float32' });
    expect(chain.steps).toEqual(['Transpose']);
    expect(readThrough(chain)).toEqual(evaluate('v', made));
  });

  it.each<[string, Attribute, number[]]>([
    ['a list', floats('value_floats', [1, 2, 3, 4, 5, 6]), [2, 3]],
    ['a number', { name: 'value_float', type: 'float', value: 7 }, [1, 1]],
  ])('a weight that is %s', (_, attribute, dims) => {
    const nodes = [
      node('Constant', [], 'c', [attribute]),
      node('Constant', [], 'shape', [ints('value_ints', dims)]),
      ...line('c', ['Reshape', ['shape']]),
    ];
    const made = build(nodes);
    expect(follow(made)?.matrix?.dims).toEqual(dims);
    expect(readThrough(follow(made) as WeightChain)).toEqual(evaluate('v', made));
  });

  it.each<[string, Attribute, number[]]>([
    ['value', tensorValue(Tensor.int64('', [2], [3, -1])), [3, 2]],
    ['value of 32 bits', tensorValue(Tensor.fromBytes('', 'int32', [2], asBytes(Int32Array.of(3, -1)))), [3, 2]],
    ['value_ints', ints('value_ints', [6, 1]), [6, 1]],
  ])('a shape in %s', (_, attribute, dims) => {
    const made = build([node('Constant', [], 's', [attribute]), ...line('w', ['Reshape', ['s']])]);
    expect(follow(made)?.matrix?.dims).toEqual(dims);
  });

  it('an axis in value_int', () => {
    const made = build([node('Constant', [], 's', [int('value_int', 0)]), ...line('w123', ['Squeeze', ['s']])]);
    expect(follow(made)?.matrix?.dims).toEqual([2, 3]);
  });

  it.each<[string, Attribute, 0 | 1 | null]>([
    ['value', tensorValue(Tensor.float32('', [2, 1], [2, 4])), 0],
    ['value_floats', floats('value_floats', [2, 4, 8]), 1],
    ['value_float', { name: 'value_float', type: 'float', value: 0.5 }, null],
  ])('a factor in %s', (_, attribute, axis) => {
    const made = build([node('Constant', [], 's', [attribute]), ...line('w', ['Mul', ['s']])]);
    const chain = follow(made) as WeightChain;
    expect(chain.factors).toMatchObject([{ axis, values: { name: 's' } }]);
    expect(readThrough(chain)).toEqual(evaluate('v', made));
  });

  it.each<[string, Attribute[]]>([
    ['text', [{ name: 'value_string', type: 'string', value: new Uint8Array(2) }]],
    ['a sparse tensor', [{ name: 'sparse_value', type: 'opaque' }]],
    ['an attribute of the calling node', [{ name: 'value', type: 'reference', to: 'weight' }]],
    ['nothing', []],
    ['integers', [tensorValue(Tensor.int64('', [2, 3], [1, 2, 3, 4, 5, 6]))]],
  ])('no weight that is %s', (_, attributes) => {
    expect(follow(build([node('Constant', [], 'v', attributes)]))).toBeUndefined();
  });

  it('nothing where it is a Constant of another domain', () => {
    const constant = node('Constant', [], 'v', [tensorValue(iota('', [2, 3]))], { domain: 'com.example' });
    expect(follow(build([constant]))).toBeUndefined();
  });
});

describe('weightChain does not follow', () => {
  it.each<[string, Node[]]>([
    ['an input', line('x', ['Transpose'])],
    ['a value that is computed', [node('Relu', ['w'], 'r'), ...line('r', ['Transpose'])]],
    ['a value that nothing makes', line('absent', ['Identity'])],
    ['weights of integers', line('codes', ['Identity'])],
    ['operators of another domain', [node('Transpose', ['w'], 'v', [], { domain: 'com.example' })]],
    ['what goes on with it as integers', line('w', ['Cast', [], [int('to', 6)]], ['Cast', [], [int('to', 1)]])],
    ['what goes on with it as truth values', line('w', ['CastLike', ['yes']], ['Cast', [], [int('to', 1)]])],
    ['an Add', line('w', ['Add', ['two']])],
    ['a weight that something is divided by', [node('Div', ['two', 'w'], 'v')]],
    ['a Div by what is computed', line('w', ['Div', ['x']])],
    ['a Div of every element', line('w', ['Div', ['full']])],
    ['a Div of one input', line('w', ['Div'])],
    ['an Expand', line('w', ['Expand', ['2 3']])],
    ['an operator without inputs', [node('Identity', [], 'v')]],
    ['a Transpose of other axes than there are', line('w', ['Transpose', [], [perm(0, 1, 2)]])],
    ['a Transpose of an axis that is not there', line('w', ['Transpose', [], [perm(0, 2)]])],
    ['a Transpose whose perm is no list', line('w', ['Transpose', [], [int('perm', 1)]])],
    ['a Squeeze of a wide axis', line('w123', ['Squeeze', ['axis 1']])],
    ['a Squeeze of an axis that is not there', line('w123', ['Squeeze', [], [ints('axes', [3])]])],
    ['a Squeeze by axes that are computed', line('w123', ['Squeeze', ['axes']])],
    ['an Unsqueeze without axes', line('w6', ['Unsqueeze'])],
    ['an Unsqueeze by axes that are computed', line('w6', ['Unsqueeze', ['axes']])],
    ['a Reshape to a shape that is computed', line('w', ['Reshape', ['axes']])],
    ['a Reshape without a shape', line('w', ['Reshape'])],
    ['a Reshape by bytes', line('w', ['Reshape', ['uint8 2 3']])],
    ['a Reshape to another size', line('w', ['Reshape', ['4 2']])],
    ['a Reshape of two sizes left open', line('w', ['Reshape', ['-1 -1']])],
    ['a Reshape to a multiple of the size', line('w', ['Reshape', ['12 2']])],
    ['a Reshape to sizes below -1', line('w', ['Reshape', ['-2 -3']])],
    ['a Reshape that keeps an axis there is not', line('w', ['Reshape', ['0 0 0']])],
    ['a Reshape to nothing', line('w', ['Reshape', ['2 0'], [int('allowzero', 1)]])],
    ['a Reshape that interleaves', line('w', ['Transpose'], ['Reshape', ['2 3']])],
    ['a Reshape that interleaves in one axis', line('w', ['Transpose'], ['Reshape', ['-1']], ['Reshape', ['3 2']])],
    ['a factor along an axis that a later Reshape merges', line('w', ['Mul', ['columns']], ['Reshape', ['6 1']])],
    ['a factor of more axes', line('w', ['Mul', ['cube']])],
    ['a factor for every element', line('w', ['Mul', ['full']])],
    ['the weight times itself', line('w', ['Mul', ['w']])],
    ['a factor that is computed', line('w', ['Mul', ['x']])],
    ['a factor that widens the weight', line('w16', ['Mul', ['rows']])],
    ['a factor that widens a vector', line('w6', ['Mul', ['rows']])],
    ['a factor of integers', line('w', ['Mul', ['whole']])],
    ['a Mul of one input', line('w', ['Mul'])],
    ['a cycle', [node('Identity', ['b'], 'v'), node('Transpose', ['v'], 'b')]],
    ['a cycle of one', [node('Identity', ['v'], 'v')]],
    ['very long chains', line('w', ...Array.from({ length: 20_000 }, (): [string] => ['Identity']))],
    ...['constructor', '__proto__', 'toString', 'hasOwnProperty', ''].map((opType): [string, Node[]] => [
      `the operator "${opType}"`,
      line('w', [opType]),
    ]),
  ])('%s', (_, nodes) => {
    const yes = Tensor.fromBytes('yes', 'bool', [], Uint8Array.of(1));
    expect(follow(build(nodes, [...CONSTANTS, yes]))).toBeUndefined();
  });

  it.each(['', 'constructor', '__proto__', 'absent'])('the value "%s", which there is not', (name) => {
    expect(follow(build([node('Relu', ['x'], 'y')]), name)).toBeUndefined();
  });

  it('a shape that lies in another file', () => {
    const shape = new Tensor('far', 'int64', [2], { kind: 'external', location: 'd', offset: 0, length: 16 });
    expect(follow(build(line('w', ['Reshape', ['far']]), [...CONSTANTS, shape]))).toBeUndefined();
  });
});

describe('what weightChain finds of any chain', () => {
  it('is the value that the operators make', () => {
    let [found, all] = [0, 0];
    fc.assert(
      fc.property(chains('any'), ({ nodes, initializers, value }) => {
        const made = graph({ nodes, initializers });
        const chain = follow(made, value);
        all++;
        if (!chain?.matrix) return;
        found++;
        expect(readThrough(chain)).toEqual(evaluate(value, made));
      }),
      { numRuns: 1500 },
    );
    expect(found / all).toBeGreaterThan(0.25);
  });

  it('is the stored matrix where nothing takes it apart for good', () => {
    fc.assert(
      fc.property(chains('regular'), ({ nodes, initializers, value }) => {
        const made = graph({ nodes, initializers });
        const chain = follow(made, value);
        expect(chain?.stored.name).toBe('w');
        expect(chain && readThrough(chain)).toEqual(evaluate(value, made));
      }),
      { numRuns: 1000 },
    );
  });
});
