import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import type { Attribute } from '../../../src/ir/attribute.js';
import { Graph, Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { graph, node } from '../helpers/graphs.js';
import { text } from './wire.js';

const attributes: Attribute[] = [
  { name: 'f', type: 'float', value: 0.25 },
  { name: 'i', type: 'int', value: -7 },
  { name: 'big', type: 'int', value: -(2n ** 63n) },
  { name: 's', type: 'string', value: text('é') },
  { name: 't', type: 'tensor', value: Tensor.float32('', [2], [1, -2]) },
  { name: 'g', type: 'graph', value: graph({ nodes: [node('Neg', ['w'], 'inner')], outputs: ['inner'] }) },
  { name: 'floats', type: 'floats', value: [1, 0.5] },
  { name: 'ints', type: 'ints', value: [1, -1, 2n ** 63n - 1n, 2 ** 40] },
  { name: 'strings', type: 'strings', value: [text('a'), text('')] },
  { name: 'graphs', type: 'graphs', value: [graph({ nodes: [node('Abs', ['w'], 'a')] })] },
];

function build(): Model {
  return new Model({
    irVersion: 10,
    opsets: [
      { domain: '', version: 21 },
      { domain: 'com.microsoft', version: 1 },
    ],
    producer: 'wanq',
    metadata: new Map([['wanq.scheme', 'ffn']]),
    graph: new Graph({
      name: 'main',
      nodes: [
        new Node({
          opType: 'Custom',
          domain: 'com.microsoft',
          name: 'n0',
          inputs: ['x', '', 'w'],
          outputs: ['y'],
          attributes,
          metadata: new Map([['namespace', 'blocks.0']]),
        }),
      ],
      initializers: [
        Tensor.float32('w', [1, 2], [3, 4]),
        Tensor.int64('shape', [2], [-1, 2 ** 40]),
        new Tensor('names', 'string', [2], { kind: 'strings', strings: [text('a'), text('b')] }),
        new Tensor('far', 'int8', [3], { kind: 'external', location: 'model.onnx_data', offset: 64, length: 3 }),
      ],
      inputs: [{ name: 'x', dtype: 'float16', dims: [1, 'tokens', null, 0] }],
      outputs: [{ name: 'y', dtype: 'float32', dims: null }],
      valueInfo: [{ name: 'scalar', dtype: 'int64', dims: [] }],
    }),
  });
}

describe('a model built from objects, read by onnx-proto', () => {
  const { ModelProto, AttributeProto, TensorProto } = onnxProto.onnx;
  const proto = ModelProto.toObject(ModelProto.decode(encodeModel(build())), { longs: String, bytes: Array });
  const [written] = proto.graph.node;

  it('has the header', () => {
    expect(proto).toMatchObject({
      irVersion: '10',
      producerName: 'wanq',
      opsetImport: [
        { domain: '', version: '21' },
        { domain: 'com.microsoft', version: '1' },
      ],
      metadataProps: [{ key: 'wanq.scheme', value: 'ffn' }],
    });
  });

  it('has the node', () => {
    expect(written).toMatchObject({
      opType: 'Custom',
      domain: 'com.microsoft',
      name: 'n0',
      input: ['x', '', 'w'],
      output: ['y'],
    });
  });

  it('has attributes of every type, 64-bit integers exact', () => {
    const { AttributeType } = AttributeProto;
    const bytes = (value: string): number[] => [...text(value)];
    expect(written.attribute).toMatchObject([
      { name: 'f', type: AttributeType.FLOAT, f: 0.25 },
      { name: 'i', type: AttributeType.INT, i: '-7' },
      { name: 'big', type: AttributeType.INT, i: '-9223372036854775808' },
      { name: 's', type: AttributeType.STRING, s: bytes('é') },
      { name: 't', type: AttributeType.TENSOR, t: { dims: ['2'], dataType: TensorProto.DataType.FLOAT } },
      { name: 'g', type: AttributeType.GRAPH, g: { node: [{ opType: 'Neg' }], output: [{ name: 'inner' }] } },
      { name: 'floats', type: AttributeType.FLOATS, floats: [1, 0.5] },
      { name: 'ints', type: AttributeType.INTS, ints: ['1', '-1', '9223372036854775807', '1099511627776'] },
      { name: 'strings', type: AttributeType.STRINGS, strings: [bytes('a'), []] },
      { name: 'graphs', type: AttributeType.GRAPHS, graphs: [{ node: [{ opType: 'Abs' }] }] },
    ]);
  });

  it('has the initializers', () => {
    const { DataType, DataLocation } = TensorProto;
    const raw = (array: ArrayBufferView): number[] => [...new Uint8Array(array.buffer)];
    expect(proto.graph.initializer).toMatchObject([
      { name: 'w', dims: ['1', '2'], dataType: DataType.FLOAT, rawData: raw(Float32Array.of(3, 4)) },
      { name: 'shape', dataType: DataType.INT64, rawData: raw(BigInt64Array.of(-1n, 2n ** 40n)) },
      { name: 'names', dataType: DataType.STRING, stringData: [[97], [98]] },
      {
        name: 'far',
        dataType: DataType.INT8,
        dims: ['3'],
        dataLocation: DataLocation.EXTERNAL,
        externalData: [
          { key: 'location', value: 'model.onnx_data' },
          { key: 'offset', value: '64' },
          { key: 'length', value: '3' },
        ],
      },
    ]);
  });

  it('has the types of values', () => {
    const tensorOf = (value: { type: { tensorType: unknown } }): unknown => value.type.tensorType;
    const { FLOAT, FLOAT16, INT64 } = TensorProto.DataType;
    expect(tensorOf(proto.graph.input[0])).toEqual({
      elemType: FLOAT16,
      shape: { dim: [{ dimValue: '1' }, { dimParam: 'tokens' }, {}, { dimValue: '0' }] },
    });
    expect(tensorOf(proto.graph.output[0])).toEqual({ elemType: FLOAT });
    expect(tensorOf(proto.graph.valueInfo[0])).toEqual({ elemType: INT64, shape: {} });
  });
});

describe('encodeModel', () => {
  it('writes what decodeModel reads back as the same objects', () => {
    const original = build();
    const read = decodeModel(encodeModel(original));
    expect(read.graph.inputs).toEqual(original.graph.inputs);
    expect(read.graph.outputs).toEqual(original.graph.outputs);
    expect(read.graph.valueInfo).toEqual(original.graph.valueInfo);
    expect(read.graph.nodes[0]?.metadata).toEqual(new Map([['namespace', 'blocks.0']]));
    const plain = (attribute: Attribute | undefined): unknown => JSON.parse(JSON.stringify(attribute, numbersAsText));
    for (const name of ['f', 'i', 'big', 'floats', 'ints']) {
      expect(plain(read.graph.nodes[0]?.attribute(name))).toEqual(plain(original.graph.nodes[0]?.attribute(name)));
    }
  });

  it('throws where a derived tensor was not computed', () => {
    const source = Tensor.float32('s', [1], [1]);
    const derived = new Tensor('l', 'float16', [1], { kind: 'derived', source, form: { as: 'float16' } });
    const model = build();
    model.graph.addInitializer(derived);
    expect(() => encodeModel(model)).toThrow('derived tensor l');
  });
});

function numbersAsText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}
