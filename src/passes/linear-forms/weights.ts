import type { Linear } from '../../analyze/linears.js';
import { castBack, type FormContext, type ScaleType } from './form.js';

/**
 * A per-channel DequantizeLinear in place of the weight; the product is one of floats. Where its scales have another type than the model computed
 * in, the product has theirs, with Casts around it.
 *
 * Source of the operator: ONNX DequantizeLinear-13/19/21.
 */
export class WeightsForm {
  readonly #context: FormContext;
  readonly #cast = new Map<string, string>();

  constructor(context: FormContext) {
    this.#context = context;
  }

  rewrite(linear: Linear, scaleType: ScaleType): void {
    const { weights } = this.#context;
    const input = this.#input(linear, scaleType);
    if (linear.kind === 'Conv') {
      this.#context.convolve(linear, input, weights.quantizeKernel(linear, scaleType), scaleType);
      return;
    }
    const inputs = [input, weights.quantize(linear, scaleType)];
    const steps = [...castBack(linear, scaleType), ...this.#context.bias(linear, 'Add')];
    this.#context.replace(linear, { opType: 'MatMul', inputs }, steps);
  }

  #input({ activation, node, computeType }: Linear, scaleType: ScaleType): string {
    if (computeType === undefined || computeType === scaleType) return activation;
    const known = this.#cast.get(activation);
    if (known !== undefined) return known;
    const context = this.#context;
    const output = context.names.unique(`${activation}_Cast_Output`);
    context.insertBefore(node, [context.cast(activation, output, scaleType)]);
    this.#cast.set(activation, output);
    return output;
  }
}
