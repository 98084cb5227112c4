import type { DataTypeName } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../ir/tensor.js';
import type { GraphIndex } from '../ir/traverse.js';
import { valueTypes } from './value-types.js';

/** Whether a node is a constant, which costs nothing to have twice. */
export function isConstant({ opType, isOnnx }: Node): boolean {
  return opType === 'Constant' && isOnnx;
}

/** The constant tensor of a name: an initializer, or what a Constant node holds, under the name of the node's output. */
export function constantTensor(name: string, graph: Graph, index: GraphIndex): Tensor | undefined {
  const initializer = graph.initializers.get(name);
  if (initializer) return initializer;
  const node = index.producers.get(name);
  if (!node || !isConstant(node)) return undefined;
  const value = node.attribute('value');
  if (value?.type === 'tensor') {
    const { dtype, dims, data } = value.value;
    return new Tensor(name, dtype, dims, data);
  }
  const [attribute] = node.attributes;
  switch (attribute?.type) {
    case 'int':
      return Tensor.int64(name, [], [Number(attribute.value)]);
    case 'ints':
      return Tensor.int64(name, [attribute.value.length], attribute.value.map(Number));
    case 'float':
      return Tensor.float32(name, [], [attribute.value]);
    case 'floats':
      return Tensor.float32(name, [attribute.value.length], attribute.value);
    default:
      return undefined;
  }
}

/** @returns the values of a small integer constant; undefined where it is none, or lies in another file */
export function integers({ dtype, data }: Tensor): number[] | undefined {
  if (data.kind !== 'bytes') return undefined;
  // A copy of its own: the slice of a Buffer shares its memory.
  const bytes = new Uint8Array(data.bytes);
  if (dtype === 'int64') return Array.from(new BigInt64Array(bytes.buffer), Number);
  return dtype === 'int32' ? [...new Int32Array(bytes.buffer)] : undefined;
}

/** Of graphs as they were when they were indexed. */
const typesOf = new WeakMap<GraphIndex, ReadonlyMap<string, DataTypeName>>();

/** The element type of a value, as far as the graph tells it. Works out the types of all values when it is first asked. */
export function typeOf(name: string, graph: Graph, index: GraphIndex): DataTypeName | undefined {
  let types = typesOf.get(index);
  if (!types) {
    types = valueTypes(graph);
    typesOf.set(index, types);
  }
  return types.get(name);
}
