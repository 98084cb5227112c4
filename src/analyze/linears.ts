import { type DataTypeName, dataTypeName, isQuantizableFloat } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import { type Role, roleOf } from './roles.js';

/** A matrix product with a constant weight: what wanq can quantize. */
export interface Linear {
  readonly node: Node;
  readonly kind: 'MatMul' | 'Gemm' | 'Conv';
  readonly role: Role;
  /** Where the role was read. */
  readonly evidence: string;
  /** Value name of the activation that is multiplied. */
  readonly activation: string;
  readonly output: string;
  /** The constant as it is stored. */
  readonly weight: Tensor;
  /** Input position of the weight on the node. */
  readonly weightInput: number;
  /** Whether the stored weight is [out, in] where the node reads [in, out] (Transpose nodes between them). */
  readonly transposed: boolean;
  /** Type the product is computed in: the weight's, or what a Cast before the node makes of it. */
  readonly computeType: DataTypeName | undefined;
  /** Contracted dimension. For Conv: input channels times kernel. */
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Axis of the output channels in the weight as the node reads it. */
  readonly channelAxis: 0 | 1;
}

const PASS_THROUGH = new Set(['Identity', 'Cast', 'CastLike']);

/**
 * Finds every MatMul, Gemm and Conv whose weight is an initializer, directly or through Identity, Cast and Transpose nodes, in node order.
 */
export function findLinears(graph: Graph, index: GraphIndex = indexGraph(graph)): Linear[] {
  return graph.nodes.flatMap((node) => {
    if (node.domain !== '' && node.domain !== 'ai.onnx') return [];
    const linear = asLinear(node, graph, index);
    return linear ? [linear] : [];
  });
}

function asLinear(node: Node, graph: Graph, index: GraphIndex): Linear | undefined {
  const kind = node.opType;
  if (kind !== 'MatMul' && kind !== 'Gemm' && kind !== 'Conv') return undefined;
  const [activation, weightName] = node.inputs;
  const output = node.outputs[0];
  if (activation === undefined || weightName === undefined || output === undefined) return undefined;
  const source = weightSource(weightName, graph, index);
  if (!source || weightSource(activation, graph, index)) return undefined;
  const { tensor, transposed, computeType } = source;
  const shape = weightShape(node, tensor, transposed);
  if (!shape || !isQuantizableFloat(tensor.dtype)) return undefined;
  const bias = biasName(node, output, graph, index);
  const { role, evidence } = roleOf(node, tensor.name, bias);
  return {
    node,
    kind,
    role,
    evidence,
    activation,
    output,
    weight: tensor,
    weightInput: 1,
    transposed,
    computeType,
    ...shape,
  };
}

function weightShape(
  node: Node,
  { dims }: Tensor,
  transposed: boolean,
): Pick<Linear, 'inFeatures' | 'outFeatures' | 'channelAxis'> | undefined {
  if (node.opType === 'Conv') {
    const [out, ...rest] = dims;
    if (out === undefined || rest.length < 2 || transposed) return undefined;
    return { inFeatures: rest.reduce((a, b) => a * b, 1), outFeatures: out, channelAxis: 0 };
  }
  if (dims.length !== 2) return undefined;
  if (node.opType === 'Gemm' && node.intAttribute('transA', 0) !== 0) return undefined;
  const [rows, columns] = (transposed ? [dims[1], dims[0]] : dims) as [number, number];
  return node.opType === 'Gemm' && node.intAttribute('transB', 0) !== 0
    ? { inFeatures: columns, outFeatures: rows, channelAxis: 0 }
    : { inFeatures: rows, outFeatures: columns, channelAxis: 1 };
}

/** Follows a value back to an initializer. */
function weightSource(
  value: string,
  graph: Graph,
  index: GraphIndex,
): { tensor: Tensor; transposed: boolean; computeType: DataTypeName | undefined } | undefined {
  let transposed = false;
  let cast: { to: DataTypeName | undefined } | undefined;
  let name = value;
  const passed = new Set<string>();
  while (!passed.has(name)) {
    passed.add(name);
    const tensor = graph.initializers.get(name);
    if (tensor) return { tensor, transposed, computeType: cast ? cast.to : tensor.dtype };
    const node = index.producers.get(name);
    const input = node?.inputs[0];
    if (!node || input === undefined) return undefined;
    // The nearest cast to the node decides; CastLike follows another value, whose type is not known here.
    if (node.opType === 'Cast') cast ??= { to: dataTypeName(node.intAttribute('to', 0)) };
    if (node.opType === 'Transpose' && isMatrixTranspose(node)) transposed = !transposed;
    else if (!PASS_THROUGH.has(node.opType)) return undefined;
    name = input;
  }
  return undefined;
}

function isMatrixTranspose(node: Node): boolean {
  const perm = node.attribute('perm');
  return perm === undefined || (perm.type === 'ints' && perm.value.length === 2 && Number(perm.value[0]) === 1);
}

function biasName(node: Node, output: string, graph: Graph, index: GraphIndex): string | undefined {
  const own = node.inputs[2];
  if (own !== undefined && own !== '') return own;
  const add = index.consumers.get(output)?.find((use) => use.node.opType === 'Add')?.node;
  return add?.inputs.find((name) => graph.initializers.has(name));
}
