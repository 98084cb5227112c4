import { describe, expect, it } from 'vitest';
import {
  MAX_ATTRIBUTE_VALUES,
  MAX_ATTRIBUTES,
  MAX_EXTERNAL_ENTRIES,
  MAX_FUNCTIONS,
  MAX_GRAPH_VALUES,
  MAX_INITIALIZERS,
  MAX_METADATA_ENTRIES,
  MAX_MODEL_FIELDS,
  MAX_NAME_BYTES,
  MAX_NODE_VALUES,
  MAX_NODES,
  MAX_OPSETS,
  MAX_RANK,
  MAX_TEXT_BYTES,
  MAX_TYPED_ELEMENTS,
  MAX_VALUE_INFOS,
} from '../../../src/limits.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { encodeMessage, type Message } from '../../../src/onnx/schema.js';
import { expectRefusal, thrownBy } from '../helpers/errors.js';
import { graphBytes, int64, modelBytes, modelWithTensor, text } from './wire.js';

/** A field of a message, `count` times, each holding `bytes`. Made by hand: protobufjs would make an object of each first. */
function repeated(id: number, count: number, bytes: Uint8Array = new Uint8Array(0)): Uint8Array {
  const one = Buffer.concat([varint(id * 8 + 2), varint(bytes.length), bytes]);
  return Buffer.alloc(one.length * count, one);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    if (rest < 128) return Buffer.from(bytes);
  }
}

const joined = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts);
const long = (length: number): string => 'x'.repeat(length);
const inGraph = (...parts: Uint8Array[]): Uint8Array => modelBytes({ graph: joined(graphBytes(), ...parts) });
const inNode = (...parts: Uint8Array[]): Uint8Array => inGraph(repeated(1, 1, joined(...parts)));
const inAttribute = (...parts: Uint8Array[]): Uint8Array => inNode(repeated(5, 1, joined(...parts)));
const inModel = (...parts: Uint8Array[]): Uint8Array => joined(modelBytes(), ...parts);
const inFunction = (...parts: Uint8Array[]): Uint8Array => inModel(repeated(25, 1, joined(...parts)));
const inTensor = (...parts: Uint8Array[]): Uint8Array => inGraph(repeated(5, 1, joined(...parts)));
const packed = (id: number, count: number, one: number[]): Uint8Array =>
  repeated(id, 1, Buffer.alloc(one.length * count, Buffer.from(one)));
const withDims = (...dim: Message[]): Uint8Array =>
  modelBytes({
    graph: graphBytes({
      input: [encodeMessage('ValueInfoProto', { name: 'x', type: { tensorType: { elemType: 1, shape: { dim } } } })],
    }),
  });
const external = { dataLocation: 1, externalData: [{ key: 'location', value: 'd' }] };
const externalTensor = encodeMessage('TensorProto', { dataType: 1, dims: [2], ...external });
const tensor = encodeMessage('TensorProto', { dataType: 1, dims: [1], floatData: [1] });

describe('a model is refused that has too', () => {
  it.each<[string, Uint8Array]>([
    ['many nodes', inGraph(repeated(1, MAX_NODES))],
    [
      'many nodes in its functions and graphs together',
      joined(inGraph(repeated(1, MAX_NODES / 2)), repeated(25, 1, repeated(7, MAX_NODES / 2))),
    ],
    ['many initializers', inGraph(repeated(5, MAX_INITIALIZERS + 1))],
    ['many inputs', inGraph(repeated(11, MAX_GRAPH_VALUES + 1))],
    ['many outputs', inGraph(repeated(12, MAX_GRAPH_VALUES + 1))],
    ['many value infos', inGraph(repeated(13, MAX_VALUE_INFOS + 1))],
    ['many sparse initializers', inGraph(repeated(15, MAX_INITIALIZERS + 1))],
    ['many metadata entries of its graph', inGraph(repeated(16, MAX_METADATA_ENTRIES + 1))],
    ['many functions', inModel(repeated(25, MAX_FUNCTIONS + 1))],
    ['many operator sets', inModel(repeated(8, MAX_OPSETS))],
    ['many metadata entries', inModel(repeated(14, MAX_METADATA_ENTRIES + 1))],
    ['many operator sets of a function', inFunction(repeated(9, MAX_OPSETS + 1))],
    ['many inputs of a function', inFunction(repeated(4, MAX_NODE_VALUES + 1))],
    ['many inputs of a node', inNode(repeated(1, MAX_NODE_VALUES + 1))],
    ['many outputs of a node', inNode(repeated(2, MAX_NODE_VALUES + 1))],
    ['many attributes of a node', inNode(repeated(5, MAX_ATTRIBUTES + 1))],
    ['many metadata entries of a node', inNode(repeated(9, MAX_METADATA_ENTRIES + 1))],
    ['many floats in an attribute', inAttribute(packed(7, MAX_ATTRIBUTE_VALUES + 1, [0, 0, 0, 0]))],
    ['many integers in an attribute', inAttribute(packed(8, MAX_ATTRIBUTE_VALUES + 1, [0]))],
    ['many texts in an attribute', inAttribute(repeated(9, MAX_ATTRIBUTE_VALUES + 1))],
    ['many graphs in an attribute', inAttribute(repeated(11, MAX_ATTRIBUTE_VALUES + 1))],
    ['many dimensions of a tensor', inTensor(packed(1, MAX_RANK + 1, [1]))],
    ['many dimensions of a tensor, each on its own', inTensor(Buffer.alloc(2 * (MAX_RANK + 1), Buffer.from([8, 1])))],
    ['many numbers in a tensor', inTensor(packed(5, MAX_TYPED_ELEMENTS + 1, [1]))],
    [
      'many texts in a tensor',
      modelBytes({ graph: joined(graphBytes(), repeated(5, 1, repeated(6, MAX_TYPED_ELEMENTS + 1))) }),
    ],
    ['many dimensions of a value', withDims(...Array.from({ length: MAX_RANK + 1 }, () => ({ dimValue: 1 })))],
    ['many fields that no version of ONNX has', inModel(repeated(100, MAX_MODEL_FIELDS))],
    ['long a name of a node', inNode(repeated(3, 1, text(long(MAX_NAME_BYTES + 1))))],
    ['long a name of an input', inNode(repeated(1, 1, text(long(MAX_NAME_BYTES + 1))))],
    ['long a name of a tensor', modelWithTensor({ name: long(MAX_NAME_BYTES + 1), rawData: new Uint8Array(8) })],
    ['long a name of a dimension', withDims({ dimParam: long(MAX_NAME_BYTES + 1) })],
    ['long a key of its metadata', modelBytes({ metadataProps: [{ key: long(MAX_NAME_BYTES + 1) }] })],
    ['long a doc string', inModel(repeated(6, 1, Buffer.alloc(MAX_TEXT_BYTES + 1)))],
    ['large a tensor', modelWithTensor({ dataType: 15, dims: [2 ** 33], ...external })],
  ])('%s', (_, bytes) => {
    expect(thrownBy(() => decodeModel(bytes))).toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining('more than'),
    });
  });

  it('many external data entries', () => {
    const externalData = Array.from({ length: 100_000 }, (_, i) => ({ key: `k${i}`, value: '' }));
    expectRefusal(() => decodeModel(modelWithTensor({ dataLocation: 1, externalData })), 'EXTERNAL_DATA_INVALID');
    expect(externalData.length).toBeGreaterThan(MAX_EXTERNAL_ENTRIES);
  });
});

describe('a model is refused with', () => {
  it.each<[string, Uint8Array]>([
    ['two graphs, which protobuf would merge', joined(modelBytes(), repeated(7, 1, graphBytes()))],
    ['two tensors in one attribute', inAttribute(repeated(5, 2, tensor))],
    [
      'two graphs in one attribute',
      inAttribute(encodeMessage('AttributeProto', { name: 'a', type: 5 }), repeated(6, 2, graphBytes())),
    ],
    [
      'raw data twice',
      inTensor(encodeMessage('TensorProto', { dataType: 2, dims: [4] }), repeated(9, 2, text('abcd'))),
    ],
    ['a group', inModel(Buffer.from([0x0b, 0x0c]))],
    ['a field of number 0', inModel(Buffer.from([0x02, 0]))],
    ['a length beyond its end', inModel(Buffer.from([0x32, 0x7f]))],
    ['a length of ten bytes', inModel(Buffer.from([0x32, ...Array(9).fill(0xff), 1]))],
    ['a number without an end', inModel(Buffer.from([0x08, ...Array(11).fill(0xff)]))],
    [
      'a graph in an attribute of integers',
      inAttribute(encodeMessage('AttributeProto', { name: 'a', type: 7, g: graphBytes() })),
    ],
    [
      'graphs in an attribute of integers',
      inAttribute(encodeMessage('AttributeProto', { name: 'a', type: 7, graphs: [graphBytes()] })),
    ],
    ['a dimension of 2^63 - 1', modelWithTensor({ dims: [int64(2n ** 63n - 1n)], rawData: new Uint8Array(0) })],
    ['a dimension of -2^63', modelWithTensor({ dims: [int64(-(2n ** 63n))], rawData: new Uint8Array(0) })],
    ['a dimension past 2^53', modelWithTensor({ dims: [int64(2n ** 53n + 1n)], rawData: new Uint8Array(0) })],
    [
      '32 dimensions whose product overflows a double',
      modelWithTensor({ dims: Array(32).fill(2 ** 34), rawData: new Uint8Array(0) }),
    ],
    ['data for a tensor without elements', modelWithTensor({ dims: [0], rawData: new Uint8Array(8) })],
    ['a string tensor of raw data', modelWithTensor({ dataType: 8, rawData: new Uint8Array(8) })],
    ['three 4-bit numbers in three bytes', modelWithTensor({ dataType: 22, dims: [3], rawData: new Uint8Array(3) })],
    ['a value of 2^63 - 1 elements', withDims({ dimValue: int64(2n ** 63n - 1n) })],
  ])('%s', (_, bytes) => {
    expectRefusal(() => decodeModel(bytes), 'MODEL_INVALID');
  });

  it.each<[string, Uint8Array]>([
    [
      'a list of tensors',
      inAttribute(encodeMessage('AttributeProto', { name: 'a', type: 9, tensors: [externalTensor] })),
    ],
    [
      'an attribute of another type',
      inAttribute(encodeMessage('AttributeProto', { name: 'a', type: 2, t: externalTensor })),
    ],
    [
      'a sparse tensor',
      inAttribute(
        encodeMessage('AttributeProto', {
          name: 'a',
          type: 11,
          sparseTensor: encodeMessage('SparseTensorProto', { values: externalTensor }),
        }),
      ),
    ],
    [
      'a list of sparse tensors',
      inAttribute(
        encodeMessage('AttributeProto', {
          name: 'a',
          type: 12,
          sparseTensors: [encodeMessage('SparseTensorProto', { indices: externalTensor })],
        }),
      ),
    ],
    [
      'a sparse initializer',
      modelBytes({
        graph: graphBytes({ sparseInitializer: [encodeMessage('SparseTensorProto', { values: externalTensor })] }),
      }),
    ],
  ])('external data hidden in %s', (_, bytes) => {
    expectRefusal(() => decodeModel(bytes), 'EXTERNAL_DATA_INVALID');
  });

  it.each<[string, Record<string, string>]>([
    ['an offset of 1e3', { offset: '1e3' }],
    ['an offset of 1e30', { offset: '1000000000000000000000000000000' }],
    ['an offset of NaN', { offset: 'NaN' }],
    ['an offset with a space', { offset: ' 4' }],
    ['an empty offset', { offset: '' }],
    ['a negative length', { length: '-8' }],
    ['a fraction as length', { length: '8.0' }],
    ['a key __proto__', { ['__proto__']: 'x' }],
    ['a location with a NUL', { location: 'd\0' }],
    ['an absolute location', { location: '/etc/passwd' }],
    ['a location above', { location: 'a/../../d' }],
  ])('external data of %s', (_, values) => {
    const externalData = Object.entries({ location: 'd', ...values }).map(([key, value]) => ({ key, value }));
    if (Object.hasOwn(values, '__proto__')) externalData.push({ key: '__proto__', value: 'x' });
    expectRefusal(() => decodeModel(modelWithTensor({ dataLocation: 1, externalData })), 'EXTERNAL_DATA_INVALID');
  });

  it('a location that is not UTF-8', () => {
    const entry = joined(repeated(1, 1, text('location')), repeated(2, 1, Uint8Array.of(0x64, 0xff)));
    const broken = joined(
      encodeMessage('TensorProto', { dataType: 1, dims: [2], dataLocation: 1 }),
      repeated(13, 1, entry),
    );
    expectRefusal(() => decodeModel(inGraph(repeated(5, 1, broken))), 'EXTERNAL_DATA_INVALID');
  });
});

describe('a model is taken with', () => {
  it.each<[string, Uint8Array]>([
    ['as many functions as are allowed', inModel(repeated(25, MAX_FUNCTIONS))],
    ['as many metadata entries', inModel(repeated(14, MAX_METADATA_ENTRIES))],
    ['as many attributes of a node', inNode(repeated(5, MAX_ATTRIBUTES))],
    ['as long a name', inNode(repeated(3, 1, text(long(MAX_NAME_BYTES))))],
    ['as many dimensions of a value', withDims(...Array.from({ length: MAX_RANK }, () => ({ dimValue: 1 })))],
    ['a field that no version of ONNX has', inModel(repeated(100, 3, text('abc')))],
    [
      'a sparse initializer within the file',
      modelBytes({
        graph: graphBytes({ sparseInitializer: [encodeMessage('SparseTensorProto', { values: tensor })] }),
      }),
    ],
    ['three 4-bit numbers in two bytes', modelWithTensor({ dataType: 22, dims: [3], rawData: new Uint8Array(2) })],
    ['a tensor without elements in a data file', modelWithTensor({ dims: [0], ...external })],
  ])('%s', (_, bytes) => {
    expect(decodeModel(bytes).graph.nodes.length).toBeGreaterThan(0);
  });

  it('a dimension of -1 in a value, which exporters write for one they do not know', () => {
    expect(decodeModel(withDims({ dimValue: int64(-1n) }, { dimValue: 3 })).graph.inputs[0]?.dims).toEqual([null, 3]);
  });
});
