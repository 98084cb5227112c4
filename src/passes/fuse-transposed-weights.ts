import { findLinears, type Linear } from '../analyze/linears.js';
import { int } from '../ir/attribute.js';
import type { Model } from '../ir/graph.js';
import { indexGraph } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';

const CONTRIB = 'com.microsoft';

/**
 * Turns Transpose(weight) -> MatMul into onnxruntime's FusedMatMul with transB, which reads the weight as it is stored. Left alone,
 * onnxruntime computes the transposed weight when it loads the model and keeps it: a second copy of every weight, and none of it mapped.
 *
 * Source: com.microsoft.FusedMatMul-1.
 */
export const fuseTransposedWeights: Pass = {
  name: 'fuse-transposed-weights',
  description: 'lets products read transposed weights as they are stored',
  run(model) {
    const found = transposedProducts(model);
    for (const { node, weight } of found) {
      node.opType = 'FusedMatMul';
      node.domain = CONTRIB;
      node.inputs = [node.inputs[0] as string, weight.name];
      node.attributes = [int('transB', 1)];
    }
    if (found.length > 0 && !model.opsets.some(({ domain }) => domain === CONTRIB)) {
      model.opsets = [...model.opsets, { domain: CONTRIB, version: 1 }];
    }
    const products = counted(found.length, 'product');
    return products && `${products} read a transposed weight as it is stored`;
  },
};

/** Products whose weight comes from its initializer through one Transpose and nothing else. */
function transposedProducts({ graph }: Model): Linear[] {
  const index = indexGraph(graph);
  return findLinears(graph, index).filter(({ node, kind, transposed, weight }) => {
    const source = index.producers.get(node.inputs[1] as string);
    return kind === 'MatMul' && transposed && source?.opType === 'Transpose' && source.inputs[0] === weight.name;
  });
}
