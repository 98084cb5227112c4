import type { Graph, Node } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';

/** Bytes that the weights of a graph take once a session holds them. */
export interface WeightMemory {
  /** As they are stored, which is how providers hold them that compute in that type. */
  readonly stored: number;
  /** On onnxruntime's CPU provider. */
  readonly cpu: number;
}

/**
 * Bytes of a weight-only INT8 value on the CPU provider: onnxruntime 1.30 makes a MatMulNBits of DequantizeLinear -> MatMul, with codes, packed
 * codes, and a scale and a zero point for every 32 values. Of 134 million values 419 MB were measured.
 */
const WEIGHT_ONLY_BYTES = 3.1;

const PRODUCTS = new Set(['MatMul', 'Gemm']);

/**
 * The CPU provider computes in FP32: it widens FP16 and BF16 weights when it loads them, and packs FP32 ones into the layout of its kernels in
 * place of mapping them. INT8 weights stay so where the activation is INT8 too; weight-only ones see {@link WEIGHT_ONLY_BYTES}.
 */
export function weightMemory(graph: Graph, index: GraphIndex = indexGraph(graph)): WeightMemory {
  let cpu = 0;
  for (const tensor of graph.initializers.values()) cpu += cpuBytes(tensor, index);
  return { stored: graph.weightBytes, cpu: Math.round(cpu) };
}

function cpuBytes({ name, dtype, elements, byteLength }: Tensor, index: GraphIndex): number {
  if (dtype === 'float16' || dtype === 'bfloat16') return 4 * elements;
  return dtype === 'int8' && isWeightOnly(name, index) ? WEIGHT_ONLY_BYTES * elements : byteLength;
}

/** Whether INT8 codes are widened for products whose activations are float. */
function isWeightOnly(name: string, { consumers, producers }: GraphIndex): boolean {
  return (consumers.get(name) ?? []).some(({ node, input }) => {
    if (node.opType !== 'DequantizeLinear' || input !== 0) return false;
    const readers = consumers.get(node.outputs[0] as string) ?? [];
    return readers.some((use) => PRODUCTS.has(use.node.opType) && use.input === 1 && !readsInt8(use.node, producers));
  });
}

function readsInt8({ inputs: [activation = ''] }: Node, producers: ReadonlyMap<string, Node>): boolean {
  return producers.get(activation)?.opType === 'DequantizeLinear';
}
