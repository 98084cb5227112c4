import { describe, expect, it } from 'vitest';
import { type Attribute, int, ints } from '../../../src/ir/attribute.js';
import { Graph, Model, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { graphText } from '../../../src/ir/text.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { storeFloat16 } from '../../../src/passes/store-float16.js';
import { graph, model, node } from '../helpers/graphs.js';

/** Everything a dump has. */
function sample(): Model {
  const branch = graph({
    nodes: [node('Neg', ['h'], 'inside')],
    initializers: [Tensor.int64('zero', [1], [0])],
    outputs: ['inside'],
  });
  return new Model({
    irVersion: 10,
    opsets: [
      { domain: '', version: 21 },
      { domain: 'com.microsoft', version: 1 },
    ],
    producer: 'pytorch 2.9',
    metadata: new Map([['wanq.version', '0.1.0']]),
    graph: new Graph({
      name: 'main',
      inputs: [{ name: 'x', dtype: 'float32', dims: ['batch', 4, null] }],
      outputs: [
        { name: 'y', dtype: 'float16', dims: [] },
        { name: 'z', dtype: null, dims: null },
      ],
      initializers: [
        Tensor.float32('scale', [2], [0.1, -1]),
        Tensor.float32('w', [4, 4], new Float32Array(16)),
        new Tensor('far', 'float32', [2, 3], {
          kind: 'external',
          location: 'model.onnx_data',
          offset: 4096,
          length: 24,
        }),
      ],
      valueInfo: [{ name: 'h', dtype: 'float32', dims: ['s0*(s1//2)', '4', 4] }],
      nodes: [
        node('MatMul', ['x', 'w'], 'h', [], { name: 'node_1', metadata: new Map([['wanq:quantized', 'ffn.up']]) }),
        node('Clip', ['h', '', 'scale'], 'c', [int('axis', -1), ints('axes', [0, 1])], { name: '' }),
        node('BiasGelu', ['c', 'far'], 'y', [], { domain: 'com.microsoft' }),
        new Node({
          opType: 'If',
          name: 'choose',
          inputs: ['c'],
          outputs: ['z', ''],
          attributes: [{ name: 'then_branch', type: 'graph', value: branch }],
        }),
      ],
    }),
    functions: [
      {
        ...{ domain: 'local', name: 'Twice', overload: 'a', inputs: ['a'], outputs: ['b'] },
        defaults: [int('n', 2)],
        nodes: [node('Add', ['a', 'a'], 'b', [{ name: 'mode', type: 'reference', to: 'n' }])],
        opsets: [{ domain: '', version: 20 }],
      },
    ],
  });
}

const GOLDEN = `\
ir 10
opset 21
opset com.microsoft 1
producer "pytorch 2.9"
metadata wanq.version = "0.1.0"
graph main
input x: float32[batch, 4, ?]
output y: float16[]
output z: ?[...]
initializer scale: float32[2] = 0.1, -1.0
initializer w: float32[4, 4] inline 64 bytes #f5a5fd42d16a
initializer far: float32[2, 3] external model.onnx_data @4096
value h: float32["s0*(s1//2)", "4", 4]
h = MatMul(x, w) "node_1" <wanq:quantized: "ffn.up">
c = Clip(h, _, scale) {axis: -1, axes: [0, 1]}
y = com.microsoft.BiasGelu(c, far) "y"
z, _ = If(c) {then_branch: graph} "choose"
  then_branch:
    graph test
    output inside: float32[...]
    initializer zero: int64[1] = 0
    inside = Neg(h) "inside"
function b = local.Twice:a(a) {n: 2}
  opset 20
  b = Add(a, a) {mode: @n} "b"`;

/** Lines of one text that the other has not, as \`diff\` shows them. */
function diff(before: string, after: string): string[] {
  const [a, b] = [before.split('\n'), after.split('\n')];
  return [
    ...a.filter((line) => !b.includes(line)).map((line) => `-${line}`),
    ...b.filter((line) => !a.includes(line)).map((line) => `+${line}`),
  ];
}

const textOf = (nodes: Node[], initializers: Tensor[] = []): string =>
  graphText(model({ nodes, initializers, inputs: ['x'], outputs: ['y'] }));

const attributeText = (attribute: Attribute): string =>
  textOf([node('Op', ['x'], 'y', [attribute])]).match(/\{a: (.*)\} "y"$/)?.[1] ?? '';

const tensorText = (tensor: Tensor): string => textOf([], [tensor]).match(/initializer t: (.*)/)?.[1] ?? '';

describe('graphText', () => {
  it('has one line for everything a model is made of', () => {
    expect(graphText(sample())).toBe(GOLDEN);
  });

  it('is the same for the same model, read again too', () => {
    expect(graphText(sample())).toBe(graphText(sample()));
    const { functions: _, ...plain } = sample();
    const made = new Model(plain);
    expect(graphText(decodeModel(encodeModel(made)))).toBe(graphText(made));
  });

  it('changes where a pass changed something, and nowhere else', () => {
    const made = sample();
    const before = graphText(made);
    storeFloat16(new Set(['scale'])).run(made);
    expect(diff(before, graphText(made))).toEqual([
      '-initializer scale: float32[2] = 0.1, -1.0',
      '+initializer scale_float16: float16[2] derived float16 from scale: float32[2] = 0.1, -1.0',
      '+scale = Cast(scale_float16) {to: 1} "scale_Cast"',
    ]);
    made.graph.outputs.pop();
    removeUnused.run(made);
    expect(diff(before, graphText(made)).filter((line) => line.startsWith('-'))).toEqual([
      '-output z: ?[...]',
      '-initializer scale: float32[2] = 0.1, -1.0',
      '-z, _ = If(c) {then_branch: graph} "choose"',
      '-  then_branch:',
      '-    graph test',
      '-    output inside: float32[...]',
      '-    initializer zero: int64[1] = 0',
      '-    inside = Neg(h) "inside"',
    ]);
  });

  it.each<[string, Attribute]>([
    ['1.0', { name: 'a', type: 'float', value: 1 }],
    ['0.1', { name: 'a', type: 'float', value: Math.fround(0.1) }],
    ['1e-30', { name: 'a', type: 'float', value: Math.fround(1e-30) }],
    ['-0.0', { name: 'a', type: 'float', value: -0 }],
    ['NaN', { name: 'a', type: 'float', value: Number.NaN }],
    ['1', { name: 'a', type: 'int', value: 1 }],
    ['9223372036854775807', { name: 'a', type: 'int', value: 2n ** 63n - 1n }],
    ['[1, -2]', { name: 'a', type: 'ints', value: [1, -2] }],
    ['[0.5, 16777216.0]', { name: 'a', type: 'floats', value: [0.5, 2 ** 24] }],
    ['"none"', { name: 'a', type: 'string', value: Buffer.from('none') }],
    ['["a", "b"]', { name: 'a', type: 'strings', value: [Buffer.from('a'), Buffer.from('b')] }],
    ['float32[1] = 2.0', { name: 'a', type: 'tensor', value: Tensor.float32('', [1], [2]) }],
    ['2 graphs', { name: 'a', type: 'graphs', value: [] }],
    ['opaque', { name: 'a', type: 'opaque' }],
  ])('shows the attribute %s', (expected, attribute) => {
    const given: Attribute =
      attribute.type === 'graphs' ? { ...attribute, value: [graph({ nodes: [] }), graph({ nodes: [] })] } : attribute;
    if (given.type === 'graphs') expect(textOf([node('Op', [], 'y', [given])])).toContain('{a: 2 graphs}');
    else expect(attributeText(given)).toBe(expected);
  });

  it('shows text that is none as bytes', () => {
    const value = Uint8Array.of(0xff, 0xfe);
    expect(attributeText({ name: 'a', type: 'string', value })).toMatch(/^2 bytes #[0-9a-f]{12}$/);
  });

  it.each<[string, Tensor]>([
    ['float32[] = 3.0', Tensor.float32('t', [], [3])],
    ['float32[0] = ', Tensor.float32('t', [0], [])],
    ['float64[1] = 0.1', Tensor.float64('t', [1], [0.1])],
    ['float16[2] = 1.0, -Infinity', Tensor.fromBytes('t', 'float16', [2], Uint8Array.of(0, 0x3c, 0, 0xfc))],
    ['int8[2] = -1, 127', Tensor.fromBytes('t', 'int8', [2], Uint8Array.of(255, 127))],
    ['uint8[2] = 255, 127', Tensor.fromBytes('t', 'uint8', [2], Uint8Array.of(255, 127))],
    ['int16[1] = -2', Tensor.fromBytes('t', 'int16', [1], Uint8Array.of(254, 255))],
    ['uint16[1] = 65534', Tensor.fromBytes('t', 'uint16', [1], Uint8Array.of(254, 255))],
    ['int32[1] = -2', Tensor.fromBytes('t', 'int32', [1], asBytes(Int32Array.of(-2)))],
    ['uint32[1] = 4294967295', Tensor.fromBytes('t', 'uint32', [1], asBytes(Uint32Array.of(2 ** 32 - 1)))],
    ['int64[2] = -1, 2', Tensor.int64('t', [2], [-1, 2])],
    [
      'uint64[1] = 18446744073709551615',
      Tensor.fromBytes('t', 'uint64', [1], asBytes(BigUint64Array.of(2n ** 64n - 1n))),
    ],
    ['bool[2] = true, false', Tensor.fromBytes('t', 'bool', [2], Uint8Array.of(1, 0))],
    [
      'string[2] = "a", "b"',
      new Tensor('t', 'string', [2], { kind: 'strings', strings: [Buffer.from('a'), Buffer.from('b')] }),
    ],
  ])('shows the values of a small tensor: %s', (expected, tensor) => {
    expect(tensorText(tensor)).toBe(expected);
  });

  it('shows eight values and hashes nine, and types without plain numbers', () => {
    const floats = (count: number): Tensor => Tensor.float32('t', [count], new Float32Array(count).fill(0.5));
    expect(tensorText(floats(8))).toBe(`float32[8] = ${Array(8).fill('0.5').join(', ')}`);
    expect(tensorText(floats(9))).toMatch(/^float32\[9\] inline 36 bytes #[0-9a-f]{12}$/);
    const other = Tensor.float32('t', [9], new Float32Array(9).fill(0.25));
    expect(tensorText(other)).not.toBe(tensorText(floats(9)));
    expect(tensorText(Tensor.fromBytes('t', 'int4', [2], Uint8Array.of(1)))).toMatch(/^int4\[2\] inline 1 bytes #/);
    const texts = new Tensor('t', 'string', [9], { kind: 'strings', strings: Array(9).fill(Buffer.from('a')) });
    expect(tensorText(texts)).toMatch(/^string\[9\] inline 9 texts #/);
  });

  it('says what a tensor is derived of and how, factors with it', () => {
    const source = Tensor.float32('w', [1, 2], [1, 2]);
    const values = Tensor.float32('f', [2], [3, 4]);
    const form = {
      ...({ as: 'int8', axis: 1, transposed: true, scale: 'float16' } as const),
      factors: [{ along: 'rows', values, divides: false }] as const,
    };
    expect(tensorText(new Tensor('t', 'int8', [2, 1], { kind: 'derived', source, form }))).toBe(
      'int8[2, 1] derived int8 (axis: 1, transposed: true, scale: float16, ' +
        'factors: [{along: rows, values: f: float32[2] = 3.0, 4.0, divides: false}]) from w: float32[1, 2] = 1.0, 2.0',
    );
  });

  it('shows short notes of a node, and hashes those of exporters', () => {
    const noted = (long: string): string =>
      textOf([
        node('Op', ['x'], 'y', [], {
          metadata: new Map([
            ['namespace', long],
            ['wanq:quantized', 'ffn'],
          ]),
        }),
      ]);
    const text = noted('blocks.0/'.repeat(9));
    expect(text).toMatch(/^y = Op\(x\) "y" <wanq:quantized: "ffn", 1 long #[0-9a-f]{12}>$/m);
    expect(noted('blocks.1/'.repeat(9))).not.toBe(text);
  });

  describe('names', () => {
    it.each([
      ['/blocks.0/attn1/to_q-1:x', '/blocks.0/attn1/to_q-1:x'],
      ['onnx::MatMul_12', 'onnx::MatMul_12'],
      ['a b', '"a b"'],
      ['a, b', '"a, b"'],
      ['a"b\\', '"a\\"b\\\\"'],
      ['_', '"_"'],
      ['été', '"été"'],
      ['line\nfeed', '"line\\nfeed"'],
      ['\u001b[31mred', '"\\u{1b}[31mred"'],
      ['a\u0085b\u2028c', '"a\\u{85}b\\u{2028}c"'],
      ['turned \u202e', '"turned \\u{202e}"'],
      ['\ud800', '"\\u{d800}"'],
    ])('%j are shown as %s', (name, shown) => {
      expect(textOf([node('Op', [name], 'y')])).toContain(`y = Op(${shown})`);
      expect(textOf([node('Op', [name], 'y')]).split('\n')).toHaveLength(
        textOf([node('Op', ['x'], 'y')]).split('\n').length,
      );
    });

    it('are cut where they are long, and still told apart', () => {
      const [one, two] = ['a', 'b'].map((end) => textOf([node('Op', [`${'n'.repeat(400)}${end}`], 'y')]));
      expect(one).not.toBe(two);
      const line = one?.split('\n').at(-1) ?? '';
      expect(line).toMatch(/^y = Op\("n{300}…" 401 characters #[0-9a-f]{12}\) "y"$/);
    });
  });
});
