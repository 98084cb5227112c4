import { constantTensor, isConstant } from '../analyze/constants.js';
import { isQuantizableFloat } from '../ir/dtype.js';
import type { Node } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';
import { indexGraph } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';

/** Smaller ones are shapes, axes and scalars, which some operators want as they are. */
const LIFTED_FROM_BYTES = 1024;

/** Makes initializers of the weights that stand in the graph as Constant nodes, so that they are written to the data file like any other. */
export const liftConstants: Pass = {
  name: 'lift-constants',
  description: 'makes initializers of weights in Constant nodes',
  run({ graph }) {
    const index = indexGraph(graph);
    const lifted = new Map<Node, Tensor>();
    for (const node of graph.nodes) {
      if (!isConstant(node)) continue;
      const tensor = constantTensor(node.outputs[0] ?? '', graph, index);
      if (!tensor || !isQuantizableFloat(tensor.dtype) || tensor.byteLength < LIFTED_FROM_BYTES) continue;
      lifted.set(node, tensor);
    }
    graph.nodes = graph.nodes.filter((node) => !lifted.has(node));
    for (const tensor of lifted.values()) graph.addInitializer(tensor);
    const constants = counted(lifted.size, 'constant');
    return constants && `made initializers of ${constants}`;
  },
};
