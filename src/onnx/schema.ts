import protobuf from 'protobufjs';
import { WanqError } from '../errors.js';
import type { ModelBudget, ScannedMessage } from './scan.js';

/**
 * The messages of ONNX that wanq touches, as a protobufjs descriptor: field names and numbers of `onnx.proto` (ONNX 1.22, IR 13).
 *
 * Repeated and nested messages that wanq edits one by one (nodes, attributes, tensors, value infos, subgraphs) are declared as
 * `bytes`: on the wire they are the same thing, and what is not edited is then written back byte for byte as it was read.
 * Fields that are not listed survive as protobufjs' unknown fields.
 */
const MESSAGES: Record<string, Record<string, [type: string, id: number, rule?: 'repeated' | 'packed']>> = {
  ModelProto: {
    irVersion: ['int64', 1],
    producerName: ['string', 2],
    producerVersion: ['string', 3],
    domain: ['string', 4],
    modelVersion: ['int64', 5],
    docString: ['string', 6],
    graph: ['bytes', 7],
    opsetImport: ['OperatorSetIdProto', 8, 'repeated'],
    metadataProps: ['StringStringEntryProto', 14, 'repeated'],
    functions: ['bytes', 25, 'repeated'],
  },
  FunctionProto: {
    name: ['string', 1],
    input: ['string', 4, 'repeated'],
    output: ['string', 5, 'repeated'],
    attribute: ['string', 6, 'repeated'],
    node: ['bytes', 7, 'repeated'],
    opsetImport: ['OperatorSetIdProto', 9, 'repeated'],
    domain: ['string', 10],
    attributeProto: ['bytes', 11, 'repeated'],
    overload: ['string', 13],
  },
  OperatorSetIdProto: { domain: ['string', 1], version: ['int64', 2] },
  StringStringEntryProto: { key: ['string', 1], value: ['string', 2] },
  GraphProto: {
    node: ['bytes', 1, 'repeated'],
    name: ['string', 2],
    initializer: ['bytes', 5, 'repeated'],
    docString: ['string', 10],
    input: ['bytes', 11, 'repeated'],
    output: ['bytes', 12, 'repeated'],
    valueInfo: ['bytes', 13, 'repeated'],
    quantizationAnnotation: ['bytes', 14, 'repeated'],
    sparseInitializer: ['bytes', 15, 'repeated'],
    metadataProps: ['bytes', 16, 'repeated'],
  },
  NodeProto: {
    input: ['string', 1, 'repeated'],
    output: ['string', 2, 'repeated'],
    name: ['string', 3],
    opType: ['string', 4],
    attribute: ['bytes', 5, 'repeated'],
    docString: ['string', 6],
    domain: ['string', 7],
    overload: ['string', 8],
    metadataProps: ['StringStringEntryProto', 9, 'repeated'],
  },
  AttributeProto: {
    name: ['string', 1],
    f: ['float', 2],
    i: ['int64', 3],
    s: ['bytes', 4],
    t: ['bytes', 5],
    g: ['bytes', 6],
    floats: ['float', 7, 'repeated'],
    ints: ['int64', 8, 'repeated'],
    strings: ['bytes', 9, 'repeated'],
    tensors: ['bytes', 10, 'repeated'],
    graphs: ['bytes', 11, 'repeated'],
    docString: ['string', 13],
    type: ['int32', 20],
    refAttrName: ['string', 21],
    sparseTensor: ['bytes', 22],
    sparseTensors: ['bytes', 23, 'repeated'],
  },
  TensorProto: {
    dims: ['int64', 1, 'repeated'],
    dataType: ['int32', 2],
    floatData: ['float', 4, 'packed'],
    int32Data: ['int32', 5, 'packed'],
    stringData: ['bytes', 6, 'repeated'],
    int64Data: ['int64', 7, 'packed'],
    name: ['string', 8],
    rawData: ['bytes', 9],
    doubleData: ['double', 10, 'packed'],
    uint64Data: ['uint64', 11, 'packed'],
    docString: ['string', 12],
    externalData: ['StringStringEntryProto', 13, 'repeated'],
    dataLocation: ['int32', 14],
    metadataProps: ['bytes', 16, 'repeated'],
  },
  SparseTensorProto: { values: ['bytes', 1], indices: ['bytes', 2], dims: ['int64', 3, 'repeated'] },
  ValueInfoProto: { name: ['string', 1], type: ['TypeProto', 2], docString: ['string', 3] },
  TypeProto: { tensorType: ['TensorTypeProto', 1], denotation: ['string', 6] },
  TensorTypeProto: { elemType: ['int32', 1], shape: ['TensorShapeProto', 2] },
  TensorShapeProto: { dim: ['DimensionProto', 1, 'repeated'] },
  DimensionProto: { dimValue: ['int64', 1], dimParam: ['string', 2], denotation: ['string', 3] },
};

/** `AttributeProto.AttributeType`. */
export const AttributeType = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
  graphs: 10,
} as const;

/** `TensorProto.DataLocation.EXTERNAL`. */
export const EXTERNAL = 1;

/** A message as protobufjs decodes it: plain fields, 64-bit integers as Long. */
// biome-ignore lint/suspicious/noExplicitAny: the field types are those of the descriptor above
export type Message = Record<string, any>;

/** A field of bytes. One that is absent reads as a plain list in protobufjs. */
export function bytesIn(message: Message, field: string): Uint8Array {
  return Object.hasOwn(message, field) ? message[field] : new Uint8Array(0);
}

const root = protobuf.Root.fromJSON({
  edition: 'proto2',
  nested: Object.fromEntries(
    Object.entries(MESSAGES).map(([name, fields]) => [
      name,
      {
        edition: 'proto2',
        fields: Object.fromEntries(
          Object.entries(fields).map(([field, [type, id, rule]]) => [
            field,
            {
              type,
              id,
              ...(rule ? { rule: 'repeated' } : {}),
              ...(rule === 'packed' ? { options: { packed: true } } : {}),
            },
          ]),
        ),
      },
    ]),
  ),
} as protobuf.INamespace);
root.resolveAll();

export type MessageName = keyof typeof MESSAGES & string;

/** protobufjs puts short texts together from pieces of eight characters, a quarter of the time of decoding the 5B; Node reads them at once. */
class WireReader extends protobuf.Reader {
  readonly #text: Buffer;

  constructor(bytes: Uint8Array) {
    super(bytes);
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  override string(): string {
    const length = this.size();
    const start = this.pos;
    this.skip(length);
    return this.#text.toString('utf8', start, start + length);
  }
}

/** @throws Error from protobufjs where the bytes are not a message (truncated, bad wire type, nested too deep). */
export function decodeMessage(name: MessageName, bytes: Uint8Array): Message {
  const reader = new WireReader(bytes);
  reader.discardUnknown = false;
  return root.lookupType(name).decode(reader) as Message;
}

/**
 * Decodes untrusted bytes.
 * @param where names the message in the error
 * @throws WanqError as {@link ModelBudget.scan}
 */
export function decode(name: ScannedMessage, bytes: Uint8Array, where: string, budget: ModelBudget): Message {
  budget.scan(name, bytes, where);
  try {
    return decodeMessage(name, bytes);
  } catch (cause) {
    throw new WanqError('MODEL_INVALID', `${where} is not valid ONNX protobuf`, { cause });
  }
}

export function encodeMessage(name: MessageName, message: Message): Uint8Array {
  return root.lookupType(name).encode(message).finish();
}
