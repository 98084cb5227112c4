import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../ir/tensor.js';
import type { GraphIndex } from '../ir/traverse.js';

/** Whether a node is a constant, which costs nothing to have twice. */
export function isConstant({ opType, isOnnx }: Node): boolean {
  return opType === 'Constant' && isOnnx;
}

/** The constant tensor of a name: an initializer, or what a Constant node holds, under the name of the node's output. */
export function constantTensor(name: string, graph: Graph, index: GraphIndex): Tensor | undefined {
  const initializer = graph.initializers.get(name);
  if (initializer) return initializer;
  const node = index.producers.get(name);
  return node && isConstant(node) ? constantOf(node, name) : undefined;
}

/** What a Constant node holds; undefined for texts and sparse tensors. */
export function constantOf(node: Node, name: string): Tensor | undefined {
  const value = node.attribute('value');
  if (value?.type === 'tensor') return value.value.renamed(name);
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
