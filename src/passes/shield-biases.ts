import { GemmFusion } from '../analyze/gemm-fusion.js';
import { indexGraph } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';
import { QUANTIZED } from './quantize-linears.js';

/**
 * Has a Sum add the bias of a quantized MatMul where onnxruntime would make one Gemm of MatMul and Add, for which it has no integer kernel. Both
 * operators compute the same; only those Adds are changed that would be merged, since as an Add a bias may still go into the GELU behind it.
 *
 * Works on graphs in topological order, after everything that looks for Adds.
 */
export const shieldBiases: Pass = {
  name: 'shield-biases',
  description: 'adds the biases of quantized products by Sum where Add would undo their quantization',
  run({ graph }) {
    const index = indexGraph(graph);
    const fusion = new GemmFusion(graph, index);
    const isDequantized = (name: string): boolean => index.producers.get(name)?.opType === 'DequantizeLinear';
    let shielded = 0;
    for (const node of graph.nodes) {
      // Of a weight alone, both operators are made a weight-only kernel.
      const isQuantized = node.metadata.has(QUANTIZED) && node.inputs.every(isDequantized);
      const add = isQuantized ? fusion.addBehind(node) : undefined;
      if (!add) continue;
      add.opType = 'Sum';
      shielded++;
    }
    const biases = counted(shielded, 'Add');
    return biases && `made Sum of ${biases} of biases behind quantized products`;
  },
};
