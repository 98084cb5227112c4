import { tmpdir } from 'node:os';
import { int, ints } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import { type Dim, Graph, Model, Node, type NodeFields, type Value } from '../../../src/ir/graph.js';
import type { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import type { ModelSource } from '../../../src/runtime/protocol.js';

export const CPU = { providers: ['cpu'] };

export function value(name: string, dtype: DataTypeName, dims: readonly Dim[]): Value {
  return { name, dtype, dims };
}

export function node(
  opType: string,
  inputs: string[],
  output: string,
  attributes: NodeFields['attributes'] = [],
): Node {
  return new Node({ opType, name: `${opType}_${output}`, inputs, outputs: [output], attributes });
}

export function cast(input: string, output: string, to: DataTypeName): Node {
  return node('Cast', [input], output, [int('to', DataType[to])]);
}

export function transpose(input: string, output: string): Node {
  return node('Transpose', [input], output, [ints('perm', [1, 0])]);
}

export interface GraphFields {
  readonly nodes: Node[];
  readonly inputs: Value[];
  readonly outputs: Value[];
  readonly initializers?: Iterable<Tensor>;
  readonly opset?: number;
}

export function modelOf({ nodes, inputs, outputs, initializers = [], opset = 20 }: GraphFields): Model {
  return new Model({
    irVersion: 8,
    opsets: [{ domain: '', version: opset }],
    graph: new Graph({ name: 'test', nodes, initializers, inputs, outputs }),
  });
}

export function inMemory(model: Model, folder = tmpdir()): ModelSource {
  return { bytes: encodeModel(model), folder };
}
