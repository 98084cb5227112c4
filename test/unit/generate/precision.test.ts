import { describe, expect, it } from 'vitest';
import { describePrecision } from '../../../src/generate/precision.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import { Graph, Model } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';

function model(weights: readonly [DataTypeName, number][], metadata: [string, string][] = []): Model {
  const initializers = weights.map(
    ([dtype, elements], i) =>
      new Tensor(`w${i}`, dtype, [elements], { kind: 'external', location: 'data', offset: 0, length: elements }),
  );
  const graph = new Graph({ name: 'test', nodes: [], initializers, inputs: [], outputs: [] });
  return new Model({ irVersion: 10, opsets: [], graph, metadata: new Map(metadata) });
}

describe('the precision of a model', () => {
  it.each<[string, [DataTypeName, number][], [string, string][], string]>([
    [
      'FP32',
      [
        ['float32', 5000],
        ['int64', 20],
      ],
      [],
      'FP32',
    ],
    [
      'FP16 with scales in FP32',
      [
        ['float16', 5000],
        ['float32', 40],
      ],
      [],
      'FP16',
    ],
    [
      'INT8 by another tool',
      [
        ['float32', 4000],
        ['int8', 5000],
        ['float32', 100],
      ],
      [],
      'INT8 + FP32',
    ],
    [
      'INT8 by wanq',
      [
        ['int8', 5000],
        ['float16', 4000],
      ],
      [
        ['wanq.scheme', 'ffn'],
        ['wanq.target', 'tensorrt'],
      ],
      'INT8 + FP16 (scheme ffn, target tensorrt)',
    ],
  ])('%s', (_, weights, metadata, expected) => {
    expect(describePrecision(model(weights, metadata))).toBe(expected);
  });
});
