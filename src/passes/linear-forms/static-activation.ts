import type { Linear } from '../../analyze/linears.js';
import type { ActivationScale } from '../../numerics/int8.js';
import type { FormContext, ScaleType } from './form.js';

/** Names of an activation's codes and their parameters. */
export interface QuantizedActivation {
  readonly codes: string;
  readonly scale: string;
  readonly zeroPoint: string;
}

/** Quantizes activations with one static scale, once for all linears that read them alike. */
export class StaticActivations {
  readonly #context: FormContext;
  readonly #shared = new Map<string, QuantizedActivation>();

  constructor(context: FormContext) {
    this.#context = context;
  }

  /** QuantizeLinears made. */
  get count(): number {
    return this.#shared.size;
  }

  quantize(
    { activation, node, computeType }: Linear,
    { dtype, scale, zeroPoint }: ActivationScale,
    scaleType: ScaleType,
  ): QuantizedActivation {
    const key = [activation, dtype, scale, zeroPoint, scaleType].join('\0');
    const shared = this.#shared.get(key);
    if (shared !== undefined) return shared;
    const context = this.#context;
    const quantized = {
      scale: context.scalar(`${activation}_scale`, scaleType, scale),
      zeroPoint: context.scalar(`${activation}_zero_point`, dtype, zeroPoint),
      codes: context.names.unique(`${activation}_QuantizeLinear_Output`),
    };
    const input = computeType === scaleType ? activation : context.names.unique(`${activation}_Cast_Output`);
    context.insertBefore(node, [
      ...(input === activation ? [] : [context.cast(activation, input, scaleType)]),
      context.node('QuantizeLinear', [input, quantized.scale, quantized.zeroPoint], quantized.codes),
    ]);
    this.#shared.set(key, quantized);
    return quantized;
  }
}
