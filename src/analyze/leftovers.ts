import type { Graph, Node } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';
import { indexGraph, subgraphs } from '../ir/traverse.js';
import { constantTensor } from './constants.js';
import { findLinears, type Linear } from './linears.js';
import { weightChain } from './weight-chain.js';

/** An operator that multiplies with a weight of its own and that wanq leaves as it is. */
export interface Leftover {
  readonly node: Node;
  /** Operator with its domain. */
  readonly operator: string;
  readonly why: string;
  /** Elements of its weights. */
  readonly parameters: number;
}

/** ONNX operators that contract an activation with a weight. Those of other domains are taken to do so where they read one. */
const CONTRACTIONS = new Set(['MatMul', 'Gemm', 'Conv', 'ConvTranspose', 'Einsum', 'Attention', 'LSTM', 'GRU', 'RNN']);

/** onnxruntime operators that read weights and multiply with none: normalization, bias and activation, lookups. */
const ELEMENTWISE = /Normalization$|Gelu$|^Bias|^RotaryEmbedding$|^Gather|^Cos|^Sin/;

/** Smaller constants are biases, tables and masks. */
const WEIGHT_FROM = 1024;

/**
 * Operators with weights that are none of the graph's linears: matrix products of a form wanq does not know, fused operators that hold packed
 * weights, and all products inside the branches and bodies of If, Loop and Scan.
 */
export function findLeftovers(graph: Graph, linears: readonly Linear[]): Leftover[] {
  return leftoversOf(graph, new Set(linears.map(({ node }) => node)), () => undefined);
}

/** The constant that a value is or comes of. */
type WeightOf = (name: string) => Tensor | undefined;

/**
 * @param outer constants of the graphs around this one
 * @param inside where it is, unless it is the model's own
 */
function leftoversOf(graph: Graph, known: ReadonlySet<Node>, outer: WeightOf, inside?: string): Leftover[] {
  const index = indexGraph(graph);
  const weightOf: WeightOf = (name) =>
    weightChain(name, graph, index)?.stored ?? constantTensor(name, graph, index) ?? castOf(name) ?? outer(name);
  /** What a Cast makes of a type that no weight of wanq's has, such as FP8. */
  const castOf: WeightOf = (name) => {
    const made = index.producers.get(name);
    return made?.isOnnx && made.opType === 'Cast' ? constantTensor(made.inputs[0] ?? '', graph, index) : undefined;
  };
  const why = inside ?? 'wanq does not know this form';
  const own = graph.nodes.flatMap((node): Leftover[] => {
    if (known.has(node) || !contracts(node)) return [];
    const weights = node.inputs.map(weightOf);
    const sizes = weights.map((tensor) => (tensor && tensor.dims.length > 1 ? tensor.elements : 0));
    const parameters = sizes.reduce((sum, size) => sum + (size >= WEIGHT_FROM ? size : 0), 0);
    // Of two constants nothing is left to run.
    const computed = weights.some((tensor, i) => tensor === undefined && node.inputs[i] !== '');
    return parameters > 0 && computed ? [{ node, operator: node.operator, why, parameters }] : [];
  });
  const deeper = graph.nodes.flatMap((node) =>
    subgraphs(node).flatMap((inner) =>
      leftoversOf(inner, known, weightOf, inside ?? `inside a branch or body of ${node.opType}`),
    ),
  );
  return [...own, ...deeper];
}

function contracts({ isOnnx, opType }: Node): boolean {
  return isOnnx ? CONTRACTIONS.has(opType) : !ELEMENTWISE.test(opType);
}

/** Leftovers of one kind. */
export interface LeftoverCount {
  readonly operator: string;
  readonly why: string;
  readonly count: number;
}

/** What of a graph can be quantized, and what cannot. */
export interface Products {
  readonly linears: readonly Linear[];
  readonly leftovers: readonly LeftoverCount[];
}

export function findProducts(graph: Graph): Products {
  const linears = findLinears(graph);
  return { linears, leftovers: countLeftovers(graph, linears) };
}

export function countLeftovers(graph: Graph, linears: readonly Linear[]): LeftoverCount[] {
  const counts = new Map<string, LeftoverCount>();
  for (const { operator, why } of findLeftovers(graph, linears)) {
    const key = `${operator}\0${why}`;
    counts.set(key, { operator, why, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return [...counts.values()];
}
