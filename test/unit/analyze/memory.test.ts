import { describe, expect, it } from 'vitest';
import { weightMemory } from '../../../src/analyze/memory.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { graph, node } from '../helpers/graphs.js';

const tensor = (name: string, dtype: DataTypeName, elements: number): Tensor =>
  new Tensor(name, dtype, [elements], { kind: 'external', location: 'data', offset: 0, length: 0 });

const memoryOf = (initializers: Tensor[], nodes: Node[] = []) =>
  weightMemory(graph({ nodes, initializers, inputs: ['x'], outputs: ['y'] }));

describe('weightMemory', () => {
  it.each<[DataTypeName, number, number]>([
    ['float32', 400, 400],
    ['float16', 200, 400],
    ['bfloat16', 200, 400],
    ['int8', 100, 100],
    ['int64', 800, 800],
  ])('of 100 %s values is %i bytes as stored and %i on the CPU provider', (dtype, stored, cpu) => {
    expect(memoryOf([tensor('w', dtype, 100)])).toEqual({ stored, cpu });
  });

  const weight = [tensor('w', 'int8', 1000), tensor('s', 'float32', 10)];
  const dequantized = node('DequantizeLinear', ['w', 's'], 'wide');

  it('of INT8 weights is one byte a value where the activation is INT8 too', () => {
    const nodes = [node('DequantizeLinear', ['q', 's'], 'a'), dequantized, node('MatMul', ['a', 'wide'], 'y')];
    expect(memoryOf(weight, nodes)).toEqual({ stored: 1040, cpu: 1040 });
    expect(memoryOf(weight, [node('MatMulInteger', ['q', 'w'], 'y')])).toEqual({ stored: 1040, cpu: 1040 });
  });

  it('of weight-only INT8 is what onnxruntime makes of it', () => {
    expect(memoryOf(weight, [dequantized, node('MatMul', ['x', 'wide'], 'y')])).toEqual({ stored: 1040, cpu: 3140 });
    // Codes of a table are looked up as they are.
    expect(memoryOf(weight, [node('Gather', ['w', 'x'], 'y')])).toEqual({ stored: 1040, cpu: 1040 });
  });
});
