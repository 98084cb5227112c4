import type { DataTypeName } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import { type Confidence, type Role, roleOf, UNKNOWN_ROLE } from './roles.js';
import { structuralRoles } from './structure.js';
import { type WeightChain, type WeightFactor, weightChain } from './weight-chain.js';

/** A matrix product with a constant weight: what wanq can quantize. */
export interface Linear {
  readonly node: Node;
  readonly kind: 'MatMul' | 'Gemm' | 'FusedMatMul' | 'Conv';
  readonly role: Role;
  /** Where the role was read. */
  readonly evidence: string;
  readonly confidence: Confidence;
  /** Value name of the activation that is multiplied. */
  readonly activation: string;
  readonly output: string;
  /** The constant as it is stored: an initializer, or what a Constant node holds under the name of its output. */
  readonly weight: Tensor;
  /** The stored bytes as a matrix: `[in, out]`, or `[out, in]` where `transposed`. Of a Conv: `[out, in]`. */
  readonly matrix: Tensor;
  readonly transposed: boolean;
  /** What the stored weight is multiplied with before it is used. */
  readonly factors: readonly WeightFactor[];
  /** Operators between the stored weight and the product. */
  readonly chain: readonly string[];
  /** Type the product is computed in: the weight's, or what a Cast before the node makes of it. */
  readonly computeType: DataTypeName | undefined;
  /** Contracted dimension. For Conv: input channels times kernel. */
  readonly inFeatures: number;
  readonly outFeatures: number;
}

type Shape = Pick<Linear, 'kind' | 'matrix' | 'transposed' | 'factors' | 'inFeatures' | 'outFeatures'>;

/**
 * Finds every MatMul, Gemm, FusedMatMul and Conv whose weight is a constant, directly or through operators that rearrange, cast or scale it,
 * in node order. Roles come from names, and from the structure of the graph where there are none.
 */
export function findLinears(graph: Graph, index: GraphIndex = indexGraph(graph)): Linear[] {
  const linears = graph.nodes.flatMap((node) => asLinear(node, graph, index) ?? []);
  if (linears.every(({ role }) => role !== UNKNOWN_ROLE)) return linears;
  const structural = structuralRoles(graph, linears, index);
  return linears.map((linear) =>
    linear.role === UNKNOWN_ROLE ? { ...linear, ...structural.get(linear.node) } : linear,
  );
}

function asLinear(node: Node, graph: Graph, index: GraphIndex): Linear | undefined {
  const shapeOf = SHAPES.get(node.operator);
  const [activation, weight] = node.inputs;
  const [output, ...others] = node.outputs;
  if (!shapeOf || activation === undefined || weight === undefined || output === undefined) return undefined;
  // A product has one output: whatever this is, its others would be lost.
  if (others.length > 0) return undefined;
  const chain = weightChain(weight, graph, index);
  if (!chain || weightChain(activation, graph, index)) return undefined;
  const shape = shapeOf(node, chain);
  if (!shape) return undefined;
  return {
    node,
    ...shape,
    ...roleOf(node, chain.stored.name, biasNames(node, output, graph, index)),
    activation,
    output,
    weight: chain.stored,
    chain: chain.steps,
    computeType: chain.computeType,
  };
}

/** How each kind of product reads its weight. Sources: ONNX MatMul-13, Gemm-13, Conv-11; com.microsoft.FusedMatMul-1. */
const SHAPES: ReadonlyMap<string, (node: Node, chain: WeightChain) => Shape | undefined> = new Map([
  ['MatMul', (_: Node, chain: WeightChain) => product('MatMul', chain, false, 1)],
  [
    'Gemm',
    (node: Node, chain: WeightChain) => {
      if (node.intAttribute('transA', 0) !== 0) return undefined;
      return product('Gemm', chain, node.intAttribute('transB', 0) !== 0, node.floatAttribute('alpha', 1));
    },
  ],
  [
    'com.microsoft.FusedMatMul',
    (node: Node, chain: WeightChain) => {
      const flags = ['transA', 'transBatchA', 'transBatchB'];
      if (flags.some((flag) => node.intAttribute(flag, 0) !== 0)) return undefined;
      return product('FusedMatMul', chain, node.intAttribute('transB', 0) !== 0, node.floatAttribute('alpha', 1));
    },
  ],
  [
    'Conv',
    (_: Node, { stored, steps }: WeightChain) => {
      const [out, ...rest] = stored.dims;
      if (out === undefined || rest.length < 2 || steps.some((step) => !UNSHAPED.has(step))) return undefined;
      const inFeatures = rest.reduce((a, b) => a * b, 1);
      const matrix = new Tensor(stored.name, stored.dtype, [out, inFeatures], stored.data);
      return { kind: 'Conv', matrix, transposed: true, factors: [], inFeatures, outFeatures: out };
    },
  ],
]);

/** Operators that leave the shape and the values of a weight as they are. */
const UNSHAPED = new Set(['Identity', 'Cast', 'CastLike']);

/** @param flipped whether the product reads its weight as `[out, in]` */
function product(kind: Shape['kind'], chain: WeightChain, flipped: boolean, alpha: number): Shape | undefined {
  if (!chain.matrix) return undefined;
  const { dims } = chain.matrix;
  const transposed = chain.transposed !== flipped;
  const [inFeatures, outFeatures] = (transposed ? dims.toReversed() : dims) as [number, number];
  const outAxis = flipped ? 0 : 1;
  const factors = chain.factors.map(({ axis, ...factor }): WeightFactor => {
    const along = axis === null ? 'all' : axis === outAxis ? 'out' : 'in';
    return { along, ...factor };
  });
  if (alpha !== 1) factors.push({ along: 'all', values: Tensor.float32('alpha', [], [alpha]), divides: false });
  return { kind, matrix: chain.matrix, transposed, factors, inFeatures, outFeatures };
}

/** Operators that add a bias to what they are given. */
const ADDING = new Set(['Add', 'BiasGelu', 'FastGelu', 'SkipLayerNormalization']);

/** Initializers that are added to a product, by itself or right behind it. */
function biasNames(node: Node, output: string, graph: Graph, index: GraphIndex): string[] {
  const adding = (index.consumers.get(output) ?? []).filter((use) => ADDING.has(use.node.opType));
  const names = [...node.inputs.slice(2), ...adding.flatMap((use) => use.node.inputs)];
  return names.filter((name) => graph.initializers.has(name));
}
