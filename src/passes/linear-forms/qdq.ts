import type { Linear } from '../../analyze/linears.js';
import type { ActivationScale } from '../../numerics/int8.js';
import { castBack, type FormContext, type ScaleType } from './form.js';
import { StaticActivations } from './static-activation.js';

/**
 * QuantizeLinear -> DequantizeLinear before the activation, one pair for all linears that read it alike, and a per-channel DequantizeLinear before
 * the weight, both of which feed the MatMul itself: anything in between keeps runtimes from fusing an integer kernel.
 *
 * Source of the operators: ONNX QuantizeLinear-13/19/21, DequantizeLinear-13/19/21.
 */
export class QdqForm {
  readonly #context: FormContext;
  readonly #activations: StaticActivations;
  /** Codes to what is dequantized of them. */
  readonly #dequantized = new Map<string, string>();

  constructor(context: FormContext) {
    this.#context = context;
    this.#activations = new StaticActivations(context);
  }

  /** QuantizeLinears made. */
  get activations(): number {
    return this.#activations.count;
  }

  rewrite(linear: Linear, activation: ActivationScale, scaleType: ScaleType): void {
    const { weights } = this.#context;
    const input = this.#through(linear, activation, scaleType);
    if (linear.kind === 'Conv') {
      this.#context.convolve(linear, input, weights.quantizeKernel(linear, scaleType), scaleType);
      return;
    }
    const inputs = [input, weights.quantize(linear, scaleType)];
    // As Add, onnxruntime would make a Gemm of both again, which it has no integer kernel for.
    const steps = [...castBack(linear, scaleType), ...this.#context.bias(linear, 'Sum')];
    this.#context.replace(linear, { opType: 'MatMul', inputs }, steps);
  }

  /** @returns the value name that takes the activation's place */
  #through(linear: Linear, activation: ActivationScale, scaleType: ScaleType): string {
    const { codes, scale, zeroPoint } = this.#activations.quantize(linear, activation, scaleType);
    const known = this.#dequantized.get(codes);
    if (known !== undefined) return known;
    const context = this.#context;
    const output = context.names.unique(`${linear.activation}_DequantizeLinear_Output`);
    context.insertBefore(linear.node, [context.node('DequantizeLinear', [codes, scale, zeroPoint], output)]);
    this.#dequantized.set(codes, output);
    return output;
  }
}
