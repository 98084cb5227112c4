import type { Attribute } from '../../../src/ir/attribute.js';
import { Graph, Model, Node, type NodeFields, type Value } from '../../../src/ir/graph.js';
import type { Tensor } from '../../../src/ir/tensor.js';
import { read } from '../../helpers/source.js';

/** A node with one output, after which it is named. */
export function node(
  opType: string,
  inputs: string[],
  output: string,
  attributes: Attribute[] = [],
  fields: Partial<NodeFields> = {},
): Node {
  return new Node({ opType, name: output, inputs, outputs: [output], attributes, ...fields });
}

export function value(name: string): Value {
  return { name, dtype: 'float32', dims: null };
}

export interface GraphParts {
  readonly nodes: Node[];
  readonly initializers?: Tensor[];
  readonly inputs?: string[];
  readonly outputs?: string[];
}

export function graph({ nodes, initializers = [], inputs = [], outputs = [] }: GraphParts): Graph {
  return new Graph({ name: 'test', nodes, initializers, inputs: inputs.map(value), outputs: outputs.map(value) });
}

export function model(parts: GraphParts, opset = 21): Model {
  return new Model({ irVersion: 10, opsets: [{ domain: '', version: opset }], graph: graph(parts) });
}

export async function readFloats(tensor: Tensor): Promise<number[]> {
  return [...new Float32Array((await read(tensor)).slice().buffer)];
}
