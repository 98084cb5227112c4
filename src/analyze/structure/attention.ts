import type { Graph, Node } from '../../ir/graph.js';
import type { GraphIndex } from '../../ir/traverse.js';
import { walkBack } from './flow.js';

/** Scores, softmax and values, as one operator or as several. */
export interface Attention {
  /** The node whose result is the attention's. */
  readonly node: Node;
  /** Values in which the queries, keys and values enter the products. */
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** The softmax and the product of the scores; undefined where one operator is all of it. */
  readonly softmax?: Node;
  readonly scores?: Node;
}

/** Operators that take queries, keys and values as their first inputs. */
const FUSED = new Set(['Attention', 'MultiHeadAttention', 'GroupQueryAttention', 'PagedAttention']);

const PRODUCTS = new Set(['MatMul', 'FusedMatMul', 'TransposeMatMul', 'Gemm']);

/** What scales, masks or caps scores. */
const ARITHMETIC = ['Add', 'Sub', 'Mul', 'Div', 'Where', 'Clip', 'Min', 'Max', 'Tanh', 'Dropout'];
const CASTS = ['Cast', 'CastLike', 'Identity', 'QuantizeLinear', 'DequantizeLinear'];
const MOVES = ['Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Flatten', 'Expand'];
const AROUND_SOFTMAX = new Set([...ARITHMETIC, ...CASTS, ...MOVES]);

/** Values, and readers of each, looked at on either side of a softmax: exports have up to 6. */
const WINDOW = 48;

/**
 * Every attention of a graph, in node order.
 *
 * @param isLinear nodes that multiply with a weight, which scores and values never do
 */
export function findAttentions(graph: Graph, index: GraphIndex, isLinear: (node: Node) => boolean): Attention[] {
  const isProduct = (node: Node): boolean => PRODUCTS.has(node.opType) && !isLinear(node);
  return graph.nodes.flatMap((node) => {
    if (FUSED.has(node.opType)) return fused(node);
    const exponents = exponentsOf(node, index);
    return exponents === undefined ? [] : (composed(exponents, node, index, isProduct) ?? []);
  });
}

function fused(node: Node): Attention {
  const [query = '', second = '', third = ''] = node.inputs;
  // Microsoft's Attention multiplies its first input with packed weights; the others may take queries, keys and values packed too.
  const packed = second === '' || (node.opType === 'Attention' && node.domain === 'com.microsoft');
  const key = packed ? query : second;
  return { node, query, key, value: packed || third === '' ? key : third };
}

/** What a softmax raises e to the power of, where a node is one: the operator, or the division at the end of its parts. */
function exponentsOf({ opType, inputs }: Node, { producers }: GraphIndex): string | undefined {
  if (opType === 'Softmax') return inputs[0];
  if (opType !== 'Div') return undefined;
  const [above, below] = inputs.map((name) => producers.get(name));
  return above?.opType === 'Exp' && below?.opType === 'ReduceSum' ? above.inputs[0] : undefined;
}

function composed(
  exponents: string,
  softmax: Node,
  index: GraphIndex,
  isProduct: (node: Node) => boolean,
): Attention | undefined {
  const scores = productBehind(exponents, index, isProduct);
  const values = scores && productAhead(softmax.outputs[0] ?? '', index, isProduct);
  if (!scores || !values) return undefined;
  const [rows = '', columns = ''] = scores.inputs;
  const [left = '', right = ''] = values.node.inputs;
  // Probabilities on the left are contracted over their columns, which then are the keys.
  return values.input === 0
    ? { node: values.node, query: rows, key: columns, value: right, softmax, scores }
    : { node: values.node, query: columns, key: rows, value: left, softmax, scores };
}

function productBehind(value: string, index: GraphIndex, isProduct: (node: Node) => boolean): Node | undefined {
  let product: Node | undefined;
  walkBack(value, index, WINDOW, (node) => {
    if (!product && isProduct(node)) product = node;
    return product === undefined && AROUND_SOFTMAX.has(node.opType);
  });
  return product;
}

function productAhead(
  value: string,
  index: GraphIndex,
  isProduct: (node: Node) => boolean,
): { node: Node; input: number } | undefined {
  const queue = [value];
  for (const name of queue) {
    for (const { node, input } of index.consumers.get(name)?.slice(0, WINDOW) ?? []) {
      if (isProduct(node)) return { node, input };
      if (AROUND_SOFTMAX.has(node.opType) && queue.length < WINDOW) queue.push(...node.outputs.slice(0, 1));
    }
  }
  return undefined;
}
