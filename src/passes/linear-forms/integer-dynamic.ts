import type { Linear } from '../../analyze/linears.js';
import { int, ints } from '../../ir/attribute.js';
import type { Node } from '../../ir/graph.js';
import { Tensor } from '../../ir/tensor.js';
import { castBack, castStep, type FormContext, type ScaleType } from './form.js';

/** Codes of an activation, with one scale for each of its rows. */
interface QuantizedTokens {
  /** Shaped as the activation. */
  readonly codes: string;
  /** FP32, `[..., 1]`. */
  readonly scales: string;
  /** Input of MatMulInteger; empty where it is 0. */
  readonly zeroPoint: string;
}

/** Type of codes: symmetric about 0, or about 128 for processors that multiply U8 by S8. */
export type CodeType = 'int8' | 'uint8';

/** From this opset on the axes of ReduceMax are an input. */
const AXES_INPUT_OPSET = 18;

/** Smallest scale of a token: smallest normal numbers, below which a division loses its digits or the token's scale is 0. */
const LEAST_SCALE: Readonly<Record<ScaleType, number>> = { float32: 2 ** -126, float16: 2 ** -14 };

/**
 * A MatMulInteger of codes whose scales the graph computes of each token: max|x| / 127 -> QuantizeLinear -> MatMulInteger -> Cast to FP32 -> Mul
 * by the token's scale -> Mul by the channel's. Linears that read one activation share its codes.
 *
 * QuantizeLinear takes a scale for each index of one axis, so tokens are rows of a matrix to it. It reads the activation once; division, rounding
 * and Cast as operators of their own would go through memory three times. Its zero points have to be as many as its scales, so they are computed
 * of them.
 *
 * Source of the operators: ONNX QuantizeLinear-13/19/21, MatMulInteger-10; of scales for each token: LLM.int8() (Dettmers et al. 2022), section 2.
 */
export class IntegerDynamicForm {
  readonly #context: FormContext;
  readonly #shared = new Map<string, QuantizedTokens>();

  constructor(context: FormContext) {
    this.#context = context;
  }

  /** QuantizeLinears made. */
  get activations(): number {
    return this.#shared.size;
  }

  /** @param scaleType what the activation is quantized from, and the result is of */
  rewrite(linear: Linear, scaleType: ScaleType, codeType: CodeType): void {
    const context = this.#context;
    const { codes, scales, zeroPoint } = this.#quantized(linear, scaleType, codeType);
    const weight = context.weights.store(linear, 'float32');
    const inputs = [codes, weight.codes, ...(zeroPoint === '' ? [] : [zeroPoint])];
    context.replace(linear, { opType: 'MatMulInteger', inputs }, [
      castStep('float32'),
      { opType: 'Mul', inputs: [scales] },
      { opType: 'Mul', inputs: [weight.scales] },
      ...(scaleType === 'float16' ? [castStep('float16')] : []),
      ...castBack(linear, scaleType),
      ...context.bias(linear, 'Add'),
    ]);
  }

  #quantized(
    { activation, node, computeType, inFeatures }: Linear,
    scaleType: ScaleType,
    codeType: CodeType,
  ): QuantizedTokens {
    const key = [activation, scaleType, codeType].join('\0');
    const shared = this.#shared.get(key);
    if (shared !== undefined) return shared;
    const context = this.#context;
    const added: Node[] = [];
    const make = (opType: string, inputs: string[], what: string, attributes: Node['attributes'] = []): string => {
      const output = context.names.unique(`${activation}_${what}`);
      added.push(context.node(opType, inputs, output, attributes));
      return output;
    };
    const cast = (input: string, to: ScaleType | CodeType, what: string): string => {
      const output = context.names.unique(`${activation}_${what}`);
      added.push(context.cast(input, output, to));
      return output;
    };
    const vector = (what: string, values: readonly number[]): string => {
      const tensor = Tensor.int64(context.names.unique(`${activation}_${what}`), [values.length], values);
      context.graph.addInitializer(tensor);
      return tensor.name;
    };
    const scalar = (what: string, value: number): string => context.scalar(`${activation}_${what}`, scaleType, value);

    const input = computeType === scaleType ? activation : cast(activation, scaleType, 'Cast_Output');
    const magnitudes = make('Abs', [input], 'magnitudes');
    const largest =
      context.model.opset < AXES_INPUT_OPSET
        ? make('ReduceMax', [magnitudes], 'largest', [ints('axes', [-1]), int('keepdims', 1)])
        : make('ReduceMax', [magnitudes, vector('last_axis', [-1])], 'largest', [int('keepdims', 1)]);
    const share = make('Div', [largest, scalar('codes', 127)], 'largest_scale');
    const scales = make('Max', [share, scalar('least_scale', LEAST_SCALE[scaleType])], 'token_scale');

    const rows = make('Reshape', [input, vector('rows_shape', [-1, inFeatures])], 'rows');
    const rowScales = make('Reshape', [scales, vector('row_scales_shape', [-1])], 'row_scales');
    const zeros = make('Mul', [rowScales, scalar('zero', 0)], 'zeros');
    const offsets = codeType === 'int8' ? zeros : make('Add', [zeros, scalar('offset', 128)], 'offsets');
    const zeroPoints = cast(offsets, codeType, 'zero_points');
    const quantized = make('QuantizeLinear', [rows, rowScales, zeroPoints], 'quantized_rows', [int('axis', 0)]);
    const codes = make('Reshape', [quantized, make('Shape', [input], 'shape')], 'quantized');
    const tokens = {
      codes,
      scales: scaleType === 'float32' ? scales : cast(scales, 'float32', 'token_scale_float32'),
      zeroPoint: codeType === 'int8' ? '' : context.scalar(`${activation}_zero_point`, codeType, 128),
    };
    context.insertBefore(node, added);
    this.#shared.set(key, tokens);
    return tokens;
  }
}
