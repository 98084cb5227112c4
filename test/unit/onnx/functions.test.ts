import { describe, expect, it } from 'vitest';
import { MAX_FUNCTION_DEPTH } from '../../../src/limits.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { encodeMessage } from '../../../src/onnx/schema.js';
import { expectRefusal } from '../helpers/errors.js';
import { graphBytes, modelBytes } from './wire.js';

const DOMAIN = 'own';

const call = (name: string): Uint8Array =>
  encodeMessage('NodeProto', { opType: name, domain: DOMAIN, input: ['x'], output: ['y'] });

/** A graph that holds a call, as the branch of an If does. */
const branch = (name: string): Uint8Array => {
  const attribute = encodeMessage('AttributeProto', {
    name: 'then_branch',
    type: 5,
    g: graphBytes({ node: [call(name)] }),
  });
  return encodeMessage('NodeProto', { opType: 'If', output: ['y'], attribute: [attribute] });
};

/** A model whose functions `f0`, `f1`, ... hold these nodes. */
const model = (...functions: Uint8Array[][]): Uint8Array =>
  modelBytes({
    functions: functions.map((node, i) => encodeMessage('FunctionProto', { name: `f${i}`, domain: DOMAIN, node })),
  });

/** Functions that each call the next one so often; the last one calls nobody. */
const chain = (length: number, times = 1): Uint8Array =>
  model(
    ...Array.from({ length }, (_, i) =>
      i === length - 1 ? [] : Array.from({ length: times }, () => call(`f${i + 1}`)),
    ),
  );

describe('functions are refused that', () => {
  it.each<[string, Uint8Array]>([
    ['call themselves', model([call('f0')])],
    ['call one another', model([call('f1')], [call('f2')], [call('f0')])],
    ['call themselves in a subgraph', model([branch('f0')])],
    ['are in one another too deep', chain(MAX_FUNCTION_DEPTH + 1)],
    ['are in one another much too deep', chain(9000)],
    ['make a billion nodes together', chain(30, 2)],
  ])('%s', (_, bytes) => {
    expectRefusal(() => decodeModel(bytes), 'MODEL_INVALID');
  });
});

describe('functions are read that', () => {
  it.each<[string, Uint8Array]>([
    ['are in one another as deep as is allowed', chain(MAX_FUNCTION_DEPTH)],
    ['make as many nodes as are allowed', chain(17, 2)],
    ['are called by many', model([call('f2'), branch('f2')], [call('f2')], [])],
    ['call what has the name of another domain', model([encodeMessage('NodeProto', { opType: 'f0' })])],
  ])('%s', (_, bytes) => {
    expect(decodeModel(bytes).functions.length).toBeGreaterThan(0);
  });
});
