import type { Graph } from '../ir/graph.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import { findLinears, type Linear } from './linears.js';
import { SCOPE_KEYS } from './roles.js';
import { DataFlow, walkBack } from './structure/flow.js';

/** What transformers' UMT5 and T5 1.1 call the two input linears of a gated feed-forward, and what the original Wan repository calls them. */
const NAMES = [/(?<![a-z0-9])wi_[01](?![a-z0-9_])/i, /(?<![a-zA-Z0-9_])blocks\.\d+\.ffn\.(?:gate\.0|fc1)(?![a-z0-9_])/];

/** Nonlinear operators, of which every activation has one however it is exported. */
const ACTIVATION = /Gelu$|^(Tanh|Erf|Sigmoid|Relu|Elu|Selu|Celu|Mish|Swish|HardSwish|HardSigmoid|Softplus|SwiGLU)$/;

/** Nodes between a product and the multiplication: a GELU of single operators has 8. */
const WINDOW = 24;

/**
 * The input linears of gated feed-forwards, `activation(x A) * (x B)`, in node order: by the names around them and, where a graph has lost its
 * names, by their structure: two linears that read one value, whose results are multiplied with each other, one of them through an activation.
 */
export function gatedInputs(
  graph: Graph,
  linears: readonly Linear[] = findLinears(graph),
  index: GraphIndex = indexGraph(graph),
): Linear[] {
  const structural = byStructure(graph, linears, index);
  return linears.filter((linear) => isNamed(linear) || structural.has(linear));
}

function isNamed({ node, weight }: Linear): boolean {
  const texts = [weight.name, node.name, ...SCOPE_KEYS.map((key) => node.metadata.get(key) ?? '')];
  // Scope paths come as /block.0/DenseReluDense/wi_0/MatMul too.
  return texts.some((text) => NAMES.some((pattern) => pattern.test(text.replaceAll('/', '.'))));
}

function byStructure(graph: Graph, linears: readonly Linear[], index: GraphIndex): Set<Linear> {
  const flow = new DataFlow(
    graph,
    linears.map(({ node, activation }) => ({ node, reads: [activation] })),
  );
  const linearOf = new Map(linears.map((linear, i) => [1n << BigInt(i), linear]));
  const products = new Set(linears.map(({ node }) => node));
  const isActivated = (value: string): boolean => {
    let found = false;
    walkBack(value, index, WINDOW, (node) => {
      if (products.has(node)) return false;
      found ||= ACTIVATION.test(node.opType);
      return true;
    });
    return found;
  };
  const pairs = graph.nodes.flatMap(({ opType, inputs }) => {
    const [a = '', b = ''] = inputs;
    if (opType !== 'Mul') return [];
    const [left, right] = [a, b].map((value) => linearOf.get(flow.of(value).near));
    if (!left || !right || left === right || left.outFeatures !== right.outFeatures) return [];
    if (originOf(left.activation, index) !== originOf(right.activation, index)) return [];
    return isActivated(a) !== isActivated(b) ? [left, right] : [];
  });
  return new Set(pairs);
}

/** The value that Casts made this of. */
function originOf(name: string, index: GraphIndex): string {
  const node = index.producers.get(name);
  const passes = node?.isOnnx && (node.opType === 'Cast' || node.opType === 'Identity');
  return passes ? originOf(node.inputs[0] as string, index) : name;
}
