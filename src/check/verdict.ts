import type { CheckedGraph, Dequantized, Parameter, QuantizedProduct } from './products.js';

/** What a runtime makes of one product. */
export interface Verdict {
  /**
   * - `integer`: an integer kernel.
   * - `weights`: a product of floats with a weight that is kept in INT8, which is what its graph asks for.
   * - `float`: its activation is quantized, and the runtime multiplies floats all the same, or does not run it.
   */
  readonly outcome: 'integer' | 'weights' | 'float';
  /** The kernel; null where there is none. */
  readonly kernel: string | null;
  /** Why it is a product of floats. */
  readonly reasons: readonly string[];
  /** What else is to know. */
  readonly notes: readonly string[];
}

/** Judges one product for one target. */
export type Rule = (product: QuantizedProduct, checked: CheckedGraph) => Verdict;

export function integer(kernel: string, ...notes: string[]): Verdict {
  return { outcome: 'integer', kernel, reasons: [], notes };
}

export function weightsOnly(kernel: string | null, ...notes: string[]): Verdict {
  return { outcome: 'weights', kernel, reasons: [], notes };
}

export function float(...reasons: string[]): Verdict {
  return { outcome: 'float', kernel: null, reasons, notes: [] };
}

/** First opset of the scale types that QuantizeLinear and DequantizeLinear took on after float32. */
const SCALE_FROM = { float16: 19, bfloat16: 19 } as const;

/** Why no runtime should take an operand: some would not load it, and some would compute with it. */
export function invalidOperand({ scale, node }: Dequantized, checked: CheckedGraph): string[] {
  const least = scale.dtype === 'float16' || scale.dtype === 'bfloat16' ? SCALE_FROM[scale.dtype] : 0;
  return [
    ...(checked.opset < least
      ? [`${node.opType} takes scales of ${scale.dtype} from opset ${least} on, and the model has ${checked.opset}`]
      : []),
    ...(checked.isBroken(scale) ? [`the scale of ${node.name || node.opType} is not positive and finite`] : []),
  ];
}

export function isPerTensor({ tensor }: Parameter): boolean {
  return tensor?.elements === 1;
}

/** "Transpose", "Mul and Reshape". */
export function listed(names: readonly string[]): string {
  const unique = [...new Set(names)];
  return unique.length < 2 ? unique.join('') : `${unique.slice(0, -1).join(', ')} and ${unique.at(-1)}`;
}

/**
 * Whether the scales of a weight are those of the product's output channels, seen through Transposes in between.
 * @returns undefined where it cannot be told
 */
export function scalesOutputs({ weight, node }: QuantizedProduct): boolean | undefined {
  if (!weight?.stored) return undefined;
  const size = weight.scale.tensor?.elements;
  if (size === 1) return true;
  if (size === undefined) return undefined;
  const rank = weight.stored.dims.length;
  const axis = weight.node.intAttribute('axis', 1);
  let channel = axis < 0 ? axis + rank : axis;
  for (const step of weight.between) {
    if (step.opType !== 'Transpose') continue;
    const perm = step.attribute('perm');
    const order = perm?.type === 'ints' ? perm.value.map(Number) : Array.from({ length: rank }, (_, i) => rank - 1 - i);
    channel = order.indexOf(channel);
  }
  if (node.opType === 'Conv') return channel === 0;
  const flipped = node.opType === 'Gemm' && node.intAttribute('transB', 0) !== 0;
  return channel === (flipped ? rank - 2 : rank - 1);
}
