import { describe, expect, it } from 'vitest';
import { decodeModel } from '../../../src/onnx/codec.js';
import { encodeMessage } from '../../../src/onnx/schema.js';
import { expectRefusal } from '../helpers/errors.js';
import { graphBytes, modelBytes } from './wire.js';

const node = (output: string[]): Uint8Array => encodeMessage('NodeProto', { opType: 'Split', input: ['x'], output });
const value = (name: string): Uint8Array => encodeMessage('ValueInfoProto', { name });
const tensor = encodeMessage('TensorProto', { name: 'w', dataType: 2, dims: [0] });

describe('a graph is refused in which a value', () => {
  it.each<[string, Uint8Array]>([
    ['is made by two nodes', graphBytes({ node: [node(['y']), node(['y'])] })],
    ['comes out of a node twice', graphBytes({ node: [node(['y', 'y'])] })],
    ['is an input that a node makes', graphBytes({ node: [node(['y'])], input: [value('y')] })],
    ['is a constant that a node makes', graphBytes({ node: [node(['w'])], initializer: [tensor] })],
  ])('%s', (_, graph) => expectRefusal(() => decodeModel(modelBytes({ graph })), 'MODEL_INVALID'));
});

describe('a graph is read in which', () => {
  it.each<[string, Uint8Array]>([
    ['outputs are left out', graphBytes({ node: [node(['', '']), node(['y', ''])] })],
    ['an initializer is an input too', graphBytes({ node: [node(['y'])], initializer: [tensor], input: [value('w')] })],
  ])('%s', (_, graph) => void decodeModel(modelBytes({ graph })));
});

it('fields of bytes that are absent are bytes all the same', () => {
  const attributes = [3, 4, 5].map((type) => encodeMessage('AttributeProto', { name: `a${type}`, type }));
  const made = encodeMessage('NodeProto', { opType: 'Any', output: ['y'], attribute: attributes });
  const { graph } = decodeModel(modelBytes({ graph: graphBytes({ node: [made], initializer: [tensor] }) }));
  expect(graph.nodes[0]?.attributes).toEqual([
    { name: 'a3', type: 'string', value: new Uint8Array(0) },
    { name: 'a4', type: 'opaque' },
    { name: 'a5', type: 'opaque' },
  ]);
  expect(graph.initializers.get('w')?.data).toEqual({ kind: 'bytes', bytes: new Uint8Array(0) });
});
