import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WanqError } from '../../../src/errors.js';
import { int } from '../../../src/ir/attribute.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { subgraphs } from '../../../src/ir/traverse.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { decodeMessage, encodeMessage, type Message } from '../../../src/onnx/schema.js';
import { expectRefusal } from '../helpers/errors.js';
import {
  graphBytes,
  int64,
  modelBytes,
  modelWithNesting,
  modelWithTensor,
  text,
  UNKNOWN_FIELD,
  withUnknown,
} from './wire.js';

const tensor = (fields: Message): Uint8Array => withUnknown('TensorProto', { docString: 'a tensor', ...fields });
const attribute = (fields: Message): Uint8Array => withUnknown('AttributeProto', { docString: 'why', ...fields });

const branch = graphBytes({
  name: 'then',
  node: [
    encodeMessage('NodeProto', { opType: 'Neg', input: ['shared'], output: ['negated'] }),
    withUnknown('NodeProto', { opType: 'Abs', input: ['negated'], output: ['chosen'] }),
  ],
  output: [encodeMessage('ValueInfoProto', { name: 'chosen' })],
});

const nodes = [
  withUnknown('NodeProto', {
    input: ['x', '', 'w'],
    output: ['shared'],
    name: 'first',
    opType: 'Custom',
    attribute: [
      attribute({ name: 'big', i: int64(2n ** 53n + 1n), type: 2 }),
      attribute({ name: 'small', i: -3, type: 2 }),
      attribute({ name: 'bigs', ints: [int64(-(2n ** 63n)), 7], type: 7 }),
      attribute({ name: 'ratio', f: 0.5, type: 1 }),
      attribute({ name: 'ratios', floats: [1, 2.5], type: 6 }),
      attribute({ name: 'mode', s: text('fast'), type: 3 }),
      attribute({ name: 'modes', strings: [text('a'), text('b')], type: 8 }),
      attribute({ name: 'table', t: tensor({ dataType: 7, dims: [1], int64Data: [int64(-1n)] }), type: 4 }),
      attribute({ name: 'referred', refAttrName: 'outer', type: 2 }),
      attribute({ name: 'sparse', type: 11 }),
    ],
    docString: 'the first',
    domain: 'com.example',
    overload: 'v2',
    metadataProps: [{ key: 'namespace', value: 'blocks.0' }],
  }),
  withUnknown('NodeProto', {
    input: ['shared'],
    output: ['y'],
    opType: 'If',
    attribute: [attribute({ name: 'then_branch', g: withUnknownGraph(branch), type: 5 })],
    metadataProps: [{ key: 'k', value: 'v' }],
  }),
  encodeMessage('NodeProto', { input: ['y'], output: ['z'], opType: 'Relu' }),
];

function withUnknownGraph(bytes: Uint8Array): Uint8Array {
  return Uint8Array.of(...bytes, ...UNKNOWN_FIELD);
}

/** A model that uses everything the codec passes through without understanding it. */
const everything = withUnknown('ModelProto', {
  irVersion: 10,
  producerName: 'somebody',
  producerVersion: '1.2',
  domain: 'com.example',
  modelVersion: int64(2n ** 60n),
  docString: 'a model',
  graph: withUnknown('GraphProto', {
    node: nodes,
    name: 'main',
    initializer: [
      tensor({ name: 'w', dataType: 1, dims: [2], floatData: [1, 2] }),
      tensor({ name: 'h', dataType: 10, dims: [2], int32Data: [0x3c00, 0xc000] }),
      tensor({ name: 'i', dataType: 7, dims: [2], int64Data: [int64(-(2n ** 63n)), int64(2n ** 53n + 1n)] }),
      tensor({ name: 'd', dataType: 11, dims: [1], doubleData: [0.1] }),
      tensor({ name: 'u', dataType: 13, dims: [1], uint64Data: [int64(2n ** 32n - 1n)] }),
      tensor({ name: 's', dataType: 8, dims: [2], stringData: [text('a'), text('')] }),
      tensor({ name: 'r', dataType: 3, dims: [3], rawData: Uint8Array.of(1, 255, 3) }),
      tensor({
        name: 'e',
        dataType: 1,
        dims: [2],
        externalData: [
          { key: 'location', value: 'data' },
          { key: 'offset', value: '4096' },
          { key: 'length', value: '8' },
          { key: 'checksum', value: 'abc' },
        ],
        dataLocation: 1,
      }),
    ],
    docString: 'a graph',
    input: [
      withUnknown('ValueInfoProto', {
        name: 'x',
        type: {
          tensorType: { elemType: 1, shape: { dim: [{ dimValue: 1 }, { dimParam: 'n' }, {}, { dimValue: 0 }] } },
        },
        docString: 'an input',
      }),
    ],
    output: [encodeMessage('ValueInfoProto', { name: 'z', type: { tensorType: { elemType: 1 } } })],
    valueInfo: [encodeMessage('ValueInfoProto', { name: 'y' })],
    quantizationAnnotation: [Uint8Array.of(0x0a, 1, 0x79)],
    sparseInitializer: [Uint8Array.of(0x1a, 0)],
    metadataProps: [encodeMessage('StringStringEntryProto', { key: 'a', value: 'b' })],
  }),
  opsetImport: [
    { domain: '', version: 17 },
    { domain: 'com.example', version: 3 },
  ],
  metadataProps: [{ key: 'author', value: 'me' }],
  functions: [Uint8Array.of(0x0a, 1, 0x66), Uint8Array.of(0x0a, 1, 0x67)],
});

const nodesOf = (model: Uint8Array): Uint8Array[] =>
  decodeMessage('GraphProto', decodeMessage('ModelProto', model).graph).node;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const endsWithUnknown = (bytes: Uint8Array): boolean =>
  Buffer.from(bytes.subarray(-UNKNOWN_FIELD.length)).equals(Uint8Array.from(UNKNOWN_FIELD));

describe('decoding a model', () => {
  const model = decodeModel(everything);
  const [first, conditional] = model.graph.nodes as [Node, Node];

  it('reads what the model says of itself', () => {
    expect(model.irVersion).toBe(10);
    expect(model.opset).toBe(17);
    expect(model.opsets).toEqual([
      { domain: '', version: 17 },
      { domain: 'com.example', version: 3 },
    ]);
    expect(model.producer).toBe('somebody 1.2');
    expect(model.metadata).toEqual(new Map([['author', 'me']]));
  });

  it('reads attributes of every type, integers beyond 2^53 exactly', () => {
    const values = Object.fromEntries(
      first.attributes.map((attribute) => {
        if (attribute.type === 'reference') return [attribute.name, { to: attribute.to }];
        return [attribute.name, attribute.type === 'opaque' ? 'opaque' : attribute.value];
      }),
    );
    expect(values).toMatchObject({
      big: 2n ** 53n + 1n,
      small: -3,
      bigs: [-(2n ** 63n), 7],
      ratio: 0.5,
      ratios: [1, 2.5],
      sparse: 'opaque',
      referred: { to: 'outer' },
    });
    expect(Buffer.from(values.mode as Uint8Array).toString()).toBe('fast');
    expect((values.modes as Uint8Array[]).map((bytes) => Buffer.from(bytes).toString())).toEqual(['a', 'b']);
  });

  it('reads inputs, an omitted one too, and metadata of a node', () => {
    expect(first.inputs).toEqual(['x', '', 'w']);
    expect(first.domain).toBe('com.example');
    expect(first.metadata).toEqual(new Map([['namespace', 'blocks.0']]));
  });

  it('reads the types of values', () => {
    expect(model.graph.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: [1, 'n', null, 0] }]);
    expect(model.graph.outputs).toEqual([{ name: 'z', dtype: 'float32', dims: null }]);
  });

  it('reads a value without a type as one of no type', () => {
    expect(model.graph.valueInfo).toEqual([{ name: 'y', dtype: null, dims: null }]);
  });

  it('reads subgraphs', () => {
    expect(subgraphs(conditional).map(({ nodes }) => nodes.map(({ opType }) => opType))).toEqual([['Neg', 'Abs']]);
  });

  it('reads typed data fields as raw little-endian bytes', () => {
    const bytesOf = (name: string): ArrayBuffer => {
      const data = model.graph.initializers.get(name)?.data;
      if (data?.kind !== 'bytes') throw new Error(`${name} is not inline`);
      return data.bytes.slice().buffer as ArrayBuffer;
    };
    expect([...new Float32Array(bytesOf('w'))]).toEqual([1, 2]);
    expect([...new Uint16Array(bytesOf('h'))]).toEqual([0x3c00, 0xc000]);
    expect([...new BigInt64Array(bytesOf('i'))]).toEqual([-(2n ** 63n), 2n ** 53n + 1n]);
    expect([...new Float64Array(bytesOf('d'))]).toEqual([0.1]);
    expect([...new BigUint64Array(bytesOf('u'))]).toEqual([2n ** 32n - 1n]);
    expect([...new Int8Array(bytesOf('r'))]).toEqual([1, -1, 3]);
  });

  it('reads where external data lies', () => {
    expect(model.graph.initializers.get('e')?.data).toEqual({
      kind: 'external',
      location: 'data',
      offset: 4096,
      length: 8,
    });
  });
});

describe('encoding a decoded model', () => {
  it('gives the same bytes, unknown fields, functions and metadata included', () => {
    expect(Buffer.from(encodeModel(decodeModel(everything))).equals(everything)).toBe(true);
  });

  it('gives the same bytes a second time', () => {
    const model = decodeModel(everything);
    encodeModel(model);
    expect(Buffer.from(encodeModel(model)).equals(everything)).toBe(true);
  });

  it('changes no node but the edited one, which keeps its unknown fields and metadata', () => {
    const model = decodeModel(everything);
    const [first] = model.graph.nodes as [Node];
    first.inputs[0] = 'renamed';
    const [edited, ...others] = nodesOf(encodeModel(model)) as [Uint8Array, ...Uint8Array[]];
    expect(others.map(hex)).toEqual(nodes.slice(1).map(hex));

    expect(endsWithUnknown(edited)).toBe(true);
    const before = decodeMessage('NodeProto', nodes[0] as Uint8Array);
    const after = decodeMessage('NodeProto', edited);
    expect({ ...after, attribute: after.attribute.map(hex) }).toEqual({
      ...before,
      input: ['renamed', '', 'w'],
      attribute: before.attribute.map(hex),
    });
  });

  it('writes an edit inside a subgraph and leaves its neighbours alone', () => {
    const model = decodeModel(everything);
    const [, conditional] = model.graph.nodes as [Node, Node];
    const [inner] = subgraphs(conditional) as [Graph];
    const [negation] = inner.nodes as [Node];
    negation.inputs = ['other'];

    const encoded = nodesOf(encodeModel(model));
    expect(hex(encoded[0] as Uint8Array)).toBe(hex(nodes[0] as Uint8Array));
    const [written] = subgraphs(decodeModel(encodeModel(model)).graph.nodes[1] as Node);
    expect(written?.nodes.map(({ inputs }) => inputs)).toEqual([['other'], ['negated']]);
    const [thenBranch] = decodeMessage('NodeProto', encoded[1] as Uint8Array).attribute;
    expect(endsWithUnknown(thenBranch)).toBe(true);
    const graph = decodeMessage('AttributeProto', thenBranch).g;
    expect(endsWithUnknown(graph)).toBe(true);
    expect(endsWithUnknown(decodeMessage('GraphProto', graph).node[1])).toBe(true);
  });

  it.each<[string, (node: Node) => void, (node: Node) => unknown]>([
    ['operator', (node) => (node.opType = 'Other'), (node) => node.opType],
    ['domain', (node) => (node.domain = 'org.other'), (node) => node.domain],
    ['name', (node) => (node.name = 'other'), (node) => node.name],
    ['inputs', (node) => node.inputs.push('more'), (node) => node.inputs],
    ['outputs', (node) => (node.outputs = ['a', 'b']), (node) => node.outputs],
    ['attributes', (node) => (node.attributes = [int('axis', 2)]), (node) => node.attributes],
    ['metadata', (node) => (node.metadata = new Map([['a', 'b']])), (node) => node.metadata],
  ])('writes a changed %s', (_, edit, view) => {
    const model = decodeModel(everything);
    const [first] = model.graph.nodes as [Node];
    edit(first);
    const written = decodeModel(encodeModel(model)).graph.nodes[0] as Node;
    expect(view(written)).toEqual(view(first));
    expect(endsWithUnknown(nodesOf(encodeModel(model))[0] as Uint8Array)).toBe(true);
  });

  it.each<[string, (node: Node) => void, (node: Node) => unknown]>([
    ['attributes', (node) => node.attributes.push(int('axis', 2)), (node) => node.attributes.length],
    ['metadata', (node) => node.metadata.set('a', 'b'), (node) => node.metadata.get('a')],
  ])('writes %s changed in place', (_, edit, view) => {
    const model = decodeModel(everything);
    const [first] = model.graph.nodes as [Node];
    edit(first);
    expect(view(decodeModel(encodeModel(model)).graph.nodes[0] as Node)).toEqual(view(first));
  });

  it('writes changed metadata and operator sets of the model', () => {
    const model = decodeModel(everything);
    model.metadata.set('wanq.version', '1');
    model.opsets = [{ domain: '', version: 21 }];
    const written = decodeModel(encodeModel(model));
    expect(written.metadata).toEqual(new Map([...model.metadata]));
    expect(written.opset).toBe(21);
  });

  it.each<[string, Message]>([
    ['an operator set without a domain', { opsetImport: [{ version: 17 }] }],
    ['a metadata entry without a value', { metadataProps: [{ key: 'a' }] }],
  ])('gives the same bytes for %s', (_, fields) => {
    const bytes = modelBytes(fields);
    expect(Buffer.from(encodeModel(decodeModel(bytes))).equals(bytes)).toBe(true);
  });
});

describe('decodeModel refuses', () => {
  const duplicate = encodeMessage('TensorProto', { name: 'w', dataType: 3, dims: [1], rawData: Uint8Array.of(1) });

  it.each<[string, Uint8Array]>([
    ['an empty file', new Uint8Array(0)],
    ['text', text('this is not a model')],
    ['a model without a graph', encodeMessage('ModelProto', { irVersion: 8, opsetImport: [{ version: 17 }] })],
    ['a model without an operator set', encodeMessage('ModelProto', { irVersion: 8, graph: graphBytes() })],
    ['a graph without nodes', modelBytes({ graph: graphBytes({ node: [] }) })],
    ['a truncated model', modelBytes().subarray(0, -3)],
    ['a damaged graph', modelBytes({ graph: Uint8Array.of(0x0a, 9) })],
    ['a damaged node', modelBytes({ graph: graphBytes({ node: [Uint8Array.of(0x0a)] }) })],
    ['a damaged value', modelBytes({ graph: graphBytes({ input: [Uint8Array.of(0x0a)] }) })],
    ['17 subgraphs in one another', modelWithNesting(17)],
    ['two initializers of one name', modelBytes({ graph: graphBytes({ initializer: [duplicate, duplicate] }) })],
    ['raw data of the wrong length', modelWithTensor({ rawData: new Uint8Array(7) })],
    ['too little typed data', modelWithTensor({ floatData: [1] })],
    ['typed data of another type', modelWithTensor({ int32Data: [1, 2] })],
    ['no data', modelWithTensor({})],
    ['raw and typed data together', modelWithTensor({ rawData: new Uint8Array(8), floatData: [1, 2] })],
    ['two kinds of typed data', modelWithTensor({ floatData: [1, 2], int32Data: [1, 2] })],
    [
      'external and typed data together',
      modelWithTensor({ dataLocation: 1, externalData: [{ key: 'location', value: 'd' }], floatData: [1, 2] }),
    ],
    ['a negative dimension', modelWithTensor({ dims: [-1], rawData: new Uint8Array(0) })],
    [
      'dimensions whose product overflows',
      modelWithTensor({ dims: [2 ** 31, 2 ** 31, 4], rawData: new Uint8Array(0) }),
    ],
    ['a huge dimension beside a zero', modelWithTensor({ dims: [0, 2 ** 52], rawData: new Uint8Array(0) })],
    ['33 dimensions', modelWithTensor({ dims: Array(33).fill(1), rawData: new Uint8Array(4) })],
    ['an unknown element type', modelWithTensor({ dataType: 99, rawData: new Uint8Array(8) })],
    ['no element type', modelWithTensor({ dataType: 0, rawData: new Uint8Array(8) })],
  ])('%s', (_, bytes) => {
    expectRefusal(() => decodeModel(bytes), 'MODEL_INVALID');
  });

  it.each<[string, Uint8Array]>([
    [
      'a model without an IR version',
      encodeMessage('ModelProto', { opsetImport: [{ version: 1 }], graph: graphBytes() }),
    ],
    ['a damaged initializer', modelBytes({ graph: graphBytes({ initializer: [Uint8Array.of(0x0a)] }) })],
    [
      'external and raw data together',
      modelWithTensor({
        dataLocation: 1,
        externalData: [{ key: 'location', value: 'd' }],
        rawData: new Uint8Array(8),
      }),
    ],
    ['fewer strings than the shape has', modelWithTensor({ dataType: 8, stringData: [text('a')] })],
  ])('%s', (_, bytes) => {
    expectRefusal(() => decodeModel(bytes), 'MODEL_INVALID');
  });

  it.each<[string, Message[]]>([
    ['no location', [{ key: 'offset', value: '0' }]],
    ['an empty location', [{ key: 'location', value: '' }]],
    ['a negative offset', entries({ location: 'd', offset: '-1' })],
    ['an offset in hexadecimal', entries({ location: 'd', offset: '0x10' })],
    ['an offset past 2^53', entries({ location: 'd', offset: '9007199254740993' })],
    ['a length other than the shape needs', entries({ location: 'd', length: '9' })],
    ['an unknown key', entries({ location: 'd', mode: 'rw' })],
    ['two locations', [...entries({ location: 'd' }), ...entries({ location: 'e' })]],
  ])('external data with %s', (_, externalData) => {
    expectRefusal(() => decodeModel(modelWithTensor({ dataLocation: 1, externalData })), 'EXTERNAL_DATA_INVALID');
  });

  it('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expectRefusal(() => decodeModel(bytes), 'MODEL_INVALID');
      }),
      { numRuns: 300 },
    );
  });
});

function entries(values: Record<string, string>): Message[] {
  return Object.entries(values).map(([key, value]) => ({ key, value }));
}

describe('decodeModel', () => {
  it('takes 16 subgraphs in one another', () => {
    let [node] = decodeModel(modelWithNesting(16)).graph.nodes;
    for (let depth = 0; depth < 16; depth++) node = subgraphs(node as Node)[0]?.nodes[0];
    expect(node?.opType).toBe('Relu');
  });

  it('takes a tensor without elements', () => {
    const { graph } = decodeModel(modelWithTensor({ dims: [0, 3], rawData: new Uint8Array(0) }));
    expect(graph.initializers.get('w')?.elements).toBe(0);
  });

  it('throws nothing but WanqErrors, however a model is damaged', () => {
    const damage = fc.array(fc.record({ at: fc.nat({ max: everything.length - 1 }), byte: fc.nat({ max: 255 }) }), {
      minLength: 1,
      maxLength: 3,
    });
    fc.assert(
      fc.property(damage, fc.nat({ max: everything.length }), (edits, end) => {
        const bytes = everything.slice(0, end < 100 ? end : undefined);
        for (const { at, byte } of edits) bytes[at] = byte;
        try {
          encodeModel(decodeModel(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(WanqError);
        }
      }),
      { numRuns: 2000, seed: 1 },
    );
  });
});
