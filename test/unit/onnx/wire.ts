import { encodeMessage, type Message, type MessageName } from '../../../src/onnx/schema.js';

/** Field 1000, which no ONNX message has, holding the bytes 1 2 3. */
export const UNKNOWN_FIELD = [0xc2, 0x3e, 3, 1, 2, 3];

/** A message that ends with {@link UNKNOWN_FIELD}. */
export function withUnknown(name: MessageName, fields: Message): Uint8Array {
  return Uint8Array.of(...encodeMessage(name, fields), ...UNKNOWN_FIELD);
}

export function int64(value: bigint): Message {
  return {
    low: Number(BigInt.asIntN(32, value)),
    high: Number(BigInt.asIntN(32, value >> 32n)),
    unsigned: false,
  };
}

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

const relu = (): Uint8Array => encodeMessage('NodeProto', { opType: 'Relu', input: ['x'], output: ['y'] });

export function graphBytes(fields: Message = {}): Uint8Array {
  return encodeMessage('GraphProto', { name: 'g', node: [relu()], ...fields });
}

/** A valid model of one node, with some fields replaced. */
export function modelBytes(fields: Message = {}): Uint8Array {
  return encodeMessage('ModelProto', {
    irVersion: 8,
    opsetImport: [{ domain: '', version: 17 }],
    graph: graphBytes(),
    ...fields,
  });
}

/** That model with one initializer `w` of two float32 values, some fields replaced. */
export function modelWithTensor(fields: Message): Uint8Array {
  const tensor = encodeMessage('TensorProto', { name: 'w', dataType: 1, dims: [2], ...fields });
  return modelBytes({ graph: graphBytes({ initializer: [tensor] }) });
}

/** That model with a chain of subgraphs, one in the other, below its own graph. */
export function modelWithNesting(depth: number): Uint8Array {
  let graph = graphBytes();
  for (let i = 0; i < depth; i++) {
    const attribute = encodeMessage('AttributeProto', { name: 'body', type: 5, g: graph });
    const node = encodeMessage('NodeProto', { opType: 'Loop', output: ['y'], attribute: [attribute] });
    graph = graphBytes({ node: [node] });
  }
  return modelBytes({ graph });
}
