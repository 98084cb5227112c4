import { findLinears, type Linear } from '../../analyze/linears.js';
import { CheckedGraph, findQuantizedProducts } from '../../check/products.js';
import type { Model, Node } from '../../ir/graph.js';
import { type GraphIndex, indexGraph } from '../../ir/traverse.js';
import { inputFactors, OUTPUT_DIVIDED_FOR } from '../../passes/smooth-activations.js';
import { planKeys } from '../../quantize/plan-file.js';

/** A linear of the reference, and the floats that go into it and come out of it in the quantized graph. */
export interface LinearPair {
  /** As plan files call it. */
  readonly key: string;
  readonly linear: Linear;
  /** Before it is quantized; smoothing may have scaled its channels. */
  readonly input: string;
  /** After it is dequantized. */
  readonly output: string;
  /** The node that quantizes its input, where one does. */
  readonly quantizer: Node | undefined;
  /** What the channels of its input and of its output are divided by, where the model says so. */
  readonly factors: { readonly input: Float32Array | undefined; readonly output: Float32Array | undefined };
}

/**
 * Finds the linears of a reference graph in a quantized one, whatever form they have there: by the name of the output, which quantizers keep,
 * or by the role. Convolutions are left out, and so is what is found nowhere.
 */
export function pairLinears(reference: Model, quantized: Model): LinearPair[] {
  const linears = findLinears(reference.graph);
  const keys = planKeys(linears);
  const index = indexGraph(quantized.graph);
  const roles = productsByRole(quantized, index);
  // What wanq wrote says which outputs are divided.
  const told = quantized.metadata.has(WRITTEN_BY_WANQ);
  const nodes = new Map(quantized.graph.nodes.map((node) => [node.name, node]));
  return linears.flatMap((linear, i) => {
    if (linear.kind === 'Conv') return [];
    const named = productBehind(linear.output, index);
    const product = named ?? roles.get(linear.role);
    const output = named ? linear.output : product?.outputs[0];
    if (!product || output === undefined) return [];
    const reader = nodes.get(product.metadata.get(OUTPUT_DIVIDED_FOR) ?? '');
    const divided = reader ? inputFactors(reader) : told ? new Float32Array(linear.outFeatures).fill(1) : undefined;
    const factors = { input: inputFactors(product), output: divided };
    return [{ key: keys[i] as string, linear, output, factors, ...floatInput(product.inputs[0] ?? '', index) }];
  });
}

/** Key of a model's metadata that every model has which wanq quantized. */
const WRITTEN_BY_WANQ = 'wanq.scheme';

const PRODUCTS = new Set(['MatMul', 'Gemm', 'FusedMatMul', 'MatMulInteger', 'MatMulIntegerToFloat', 'MatMulNBits']);

/** What brings the sums of an integer product to floats, or adds a bias; the first input is what it works on. */
const BEHIND = new Set(['Cast', 'Mul', 'Sum', 'Add']);

const MAX_BEHIND = 8;

function productBehind(output: string, { producers }: GraphIndex): Node | undefined {
  let node = producers.get(output);
  for (let i = 0; node && i < MAX_BEHIND && BEHIND.has(node.opType); i++) node = producers.get(node.inputs[0] ?? '');
  return node && PRODUCTS.has(node.opType) ? node : undefined;
}

/** Products of floats that alone have their role: of integer ones, only the name tells which of the values behind is the result. */
function productsByRole({ graph, opset }: Model, index: GraphIndex): Map<string, Node> {
  const checked = new CheckedGraph(graph, opset, { zero: new Map(), broken: new Set() });
  const all = [
    ...findQuantizedProducts(checked).filter(({ form }) => form !== 'integer'),
    ...findLinears(graph, index),
  ].filter(({ node }) => PRODUCTS.has(node.opType));
  const counts = new Map<string, number>();
  for (const { role } of all) counts.set(role, (counts.get(role) ?? 0) + 1);
  return new Map(all.flatMap(({ role, node }) => (counts.get(role) === 1 ? [[role, node]] : [])));
}

const QUANTIZING = new Set(['QuantizeLinear', 'DynamicQuantizeLinear']);
const MOVING = new Set(['DequantizeLinear', 'Reshape', 'Identity', 'Cast']);

/** The value that is quantized to make an operand, and by what; the operand itself where none is. */
function floatInput(operand: string, { producers }: GraphIndex): Pick<LinearPair, 'input' | 'quantizer'> {
  let name = operand;
  for (let node = producers.get(name); node; node = producers.get(name)) {
    name = node.inputs[0] ?? '';
    if (QUANTIZING.has(node.opType)) return { input: name, quantizer: node };
    if (!MOVING.has(node.opType)) break;
  }
  return { input: operand, quantizer: undefined };
}
