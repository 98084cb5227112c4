import type { Linear } from '../analyze/linears.js';
import type { Model, Node } from '../ir/graph.js';
import { computeFloat16 } from '../passes/compute-float16.js';
import { convertOpset } from '../passes/convert-opset.js';
import { type PassReport, runPasses } from '../passes/pass.js';
import { quantizeLinears, SCALE_OPSET } from '../passes/quantize-linears.js';
import { removeUnused } from '../passes/remove-unused.js';
import { shieldBiases } from '../passes/shield-biases.js';
import { smoothActivations } from '../passes/smooth-activations.js';
import { storeFloat16 } from '../passes/store-float16.js';
import { topologicalSort } from '../passes/topological-sort.js';
import type { FittedPlan } from './fit/plan.js';
import { computesFloat16, TARGET_TRAITS } from './target.js';

export interface Rewritten {
  readonly passes: readonly PassReport[];
  /** Values beside the plan's that would not fit into FP16 and keep what reads them in FP32. */
  readonly overflow: readonly string[];
}

/**
 * Quantizes a normalized model in place, as a plan that is bound to it says.
 * @throws WanqError of the passes
 */
export function rewriteModel(model: Model, fitted: FittedPlan): Rewritten {
  const { plan, quantized, smoothed, halved, computed, magnitudes } = fitted;
  const opset = Math.max(...quantized.map(({ scaleType = 'float32' }) => SCALE_OPSET[scaleType]));
  const overflow: string[] = [];
  const changed = new Map<Node, Linear>();
  const prepared = runPasses(model, [
    // FP16 is carried from node to node in this order.
    topologicalSort,
    ...(model.opset < opset ? [convertOpset(opset)] : []),
    smoothActivations({ activations: smoothed, writable: quantized.map(({ linear }) => linear), changed }),
  ]);
  const final = quantized.map((item) => ({ ...item, linear: changed.get(item.linear.node) ?? item.linear }));
  const rewritten = runPasses(model, [
    quantizeLinears(final),
    ...(computesFloat16(plan.target, plan.float)
      ? [
          computeFloat16({
            linears: [...computed, ...final.map(({ linear }) => linear)],
            attention: true,
            ranges: magnitudes,
            overflow,
          }),
        ]
      : []),
    storeFloat16(halved),
    topologicalSort,
    removeUnused,
    ...(TARGET_TRAITS[plan.target].mergesBiases ? [shieldBiases] : []),
  ]);
  return { passes: [...prepared, ...rewritten], overflow };
}
