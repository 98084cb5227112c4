import type { Linear } from '../analyze/linears.js';
import type { Graph, Node } from '../ir/graph.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import type { ActivationScale } from '../numerics/int8.js';
import { FormContext, SCALE_OPSET, type ScaleType } from './linear-forms/form.js';
import { type CodeType, IntegerDynamicForm } from './linear-forms/integer-dynamic.js';
import { IntegerStaticForm } from './linear-forms/integer-static.js';
import { QdqForm } from './linear-forms/qdq.js';
import { WeightsForm } from './linear-forms/weights.js';
import { counted, type Pass, requireOpset } from './pass.js';

export { SCALE_OPSET, type ScaleType } from './linear-forms/form.js';

/**
 * How a quantized linear stands in the graph.
 * - `qdq`: QuantizeLinear and DequantizeLinear around a MatMul, for runtimes that make an integer kernel of them.
 * - `integer-static`, `integer-dynamic`: a MatMulInteger, with one static scale a tensor or one a token.
 * - `weights`: DequantizeLinear on the weight alone.
 */
export const LINEAR_FORMS = ['qdq', 'integer-static', 'integer-dynamic', 'weights'] as const;

export type LinearForm = (typeof LINEAR_FORMS)[number];

/** One linear to quantize. */
export type QuantizedLinear = {
  readonly linear: Linear;
  /** Absent: float32. Where the linear computes in another type, Casts stand around it. */
  readonly scaleType?: ScaleType;
} & (
  | {
      /** Absent: `qdq`. */
      readonly form?: 'qdq' | 'integer-static';
      /** Scale of its input. */
      readonly activation: ActivationScale;
    }
  | {
      readonly form: 'integer-dynamic';
      /** Absent: int8. */
      readonly codes?: CodeType;
    }
  | { readonly form: 'weights' }
);

/** Key of a node's metadata that holds the role of a quantized linear. */
export const QUANTIZED = 'wanq:quantized';

/**
 * Rewrites linears to INT8, each in its form. All that stood between a stored weight and its product is folded into the codes. Weights are
 * converted when the model is saved, one at a time.
 */
export function quantizeLinears(linears: readonly QuantizedLinear[]): Pass {
  return {
    name: 'quantize-linears',
    description: 'rewrites linears to INT8',
    requires(model) {
      for (const { scaleType = 'float32' } of linears) {
        requireOpset(model, SCALE_OPSET[scaleType], `a ${scaleType} scale of a per-channel DequantizeLinear`);
      }
    },
    run(model) {
      const context = new FormContext(model);
      const qdq = new QdqForm(context);
      const integerStatic = new IntegerStaticForm(context);
      const integerDynamic = new IntegerDynamicForm(context);
      const weights = new WeightsForm(context);
      let quantized = 0;
      for (const each of linears) {
        const { linear, scaleType = 'float32' } = each;
        const { node } = linear;
        if (!model.graph.nodes.includes(node) || node.metadata.has(QUANTIZED)) continue;
        if (each.form === 'weights') weights.rewrite(linear, scaleType);
        else if (each.form === 'integer-dynamic') integerDynamic.rewrite(linear, scaleType, each.codes ?? 'int8');
        else if (each.form === 'integer-static') integerStatic.rewrite(linear, each.activation, scaleType);
        else qdq.rewrite(linear, each.activation, scaleType);
        node.metadata = new Map([...node.metadata, [QUANTIZED, linear.role]]);
        quantized++;
      }
      const products = counted(quantized, 'linear');
      const inputs = [qdq, integerStatic, integerDynamic].reduce((sum, { activations }) => sum + activations, 0);
      const pairs = counted(inputs, 'QuantizeLinear');
      return products && `quantized ${products} with ${pairs ?? 'no QuantizeLinear'} for their inputs`;
    },
    ensures({ graph }) {
      const index = indexGraph(graph);
      for (const { form = 'qdq', linear } of linears) {
        const { node } = linear;
        const wrong = node.metadata.has(QUANTIZED) ? defect(node, form, graph, index) : undefined;
        if (wrong !== undefined) return `${wrong} of ${node.name}`;
      }
      return undefined;
    },
  };
}

/** @returns which input is not as its form has it */
function defect({ inputs }: Node, form: LinearForm, graph: Graph, { producers }: GraphIndex): string | undefined {
  const [activation = '', weight = ''] = inputs;
  if (form === 'integer-static' || form === 'integer-dynamic') {
    const maker = producers.get(activation);
    const quantizes = maker?.opType === 'Reshape' ? producers.get(maker.inputs[0] ?? '') : maker;
    if (quantizes?.opType !== 'QuantizeLinear') return 'the activation is not quantized';
    return graph.initializers.get(weight)?.dtype === 'int8' ? undefined : 'the weight is not INT8';
  }
  const isDequantized = (name: string): boolean => producers.get(name)?.opType === 'DequantizeLinear';
  if (form === 'qdq' && !isDequantized(activation)) return 'the activation is not dequantized';
  return isDequantized(weight) ? undefined : 'the weight is not dequantized';
}
