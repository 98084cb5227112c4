import type { Linear } from '../../analyze/linears.js';
import type { ActivationScale } from '../../numerics/int8.js';
import { castBack, castStep, type FormContext, type ScaleType } from './form.js';
import { StaticActivations } from './static-activation.js';

/**
 * A MatMulInteger of codes, for runtimes that fuse no QDQ: QuantizeLinear with one static scale -> MatMulInteger -> Cast to FP32 -> Mul by the
 * activation's scale times the channel's. Sums are scaled in FP32 whatever the model computes in: that of 14,336 products reaches 2.3e8, and FP16
 * ends at 65504.
 *
 * The product of both scales is one of constants, which runtimes compute when they load the model.
 *
 * Source of the operator: ONNX MatMulInteger-10.
 */
export class IntegerStaticForm {
  readonly #context: FormContext;
  readonly #activations: StaticActivations;
  /** Scales in FP16 to the same in FP32. */
  readonly #widened = new Map<string, string>();

  constructor(context: FormContext) {
    this.#context = context;
    this.#activations = new StaticActivations(context);
  }

  /** QuantizeLinears made. */
  get activations(): number {
    return this.#activations.count;
  }

  /** @param scaleType what the activation is quantized from, and the result is of */
  rewrite(linear: Linear, activation: ActivationScale, scaleType: ScaleType): void {
    const context = this.#context;
    const { codes, scale, zeroPoint } = this.#activations.quantize(linear, activation, scaleType);
    const weight = context.weights.store(linear, 'float32');
    const wide = scaleType === 'float32' ? scale : this.#wide(scale, activation.scale);
    const factor = context.names.unique(`${linear.output}_scale`);
    context.insertBefore(linear.node, [context.node('Mul', [wide, weight.scales], factor)]);
    const inputs = [codes, weight.codes, ...(activation.zeroPoint === 0 ? [] : [zeroPoint])];
    context.replace(linear, { opType: 'MatMulInteger', inputs }, [
      castStep('float32'),
      { opType: 'Mul', inputs: [factor] },
      ...(scaleType === 'float16' ? [castStep('float16')] : []),
      ...castBack(linear, scaleType),
      ...context.bias(linear, 'Add'),
    ]);
  }

  #wide(scale: string, value: number): string {
    const known = this.#widened.get(scale) ?? this.#context.scalar(`${scale}_float32`, 'float32', value);
    this.#widened.set(scale, known);
    return known;
  }
}
