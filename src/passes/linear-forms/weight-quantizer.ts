import type { Linear } from '../../analyze/linears.js';
import { int } from '../../ir/attribute.js';
import { type Model, Node } from '../../ir/graph.js';
import type { NameAuthority } from '../../ir/names.js';
import { type DerivedForm, type MatrixFactor, Tensor } from '../../ir/tensor.js';
import { derivationKey } from '../../onnx/convert/jobs.js';
import type { ScaleType } from './form.js';

/** Names of the initializers of a quantized weight. */
export interface QuantizedWeight {
  /** INT8, `[in, out]`; of a Conv, in the shape it had. */
  readonly codes: string;
  /** `[out]`. */
  readonly scales: string;
}

type Int8Form = Omit<Extract<DerivedForm, { axis: unknown }>, 'as'>;

/**
 * Makes INT8 initializers of the weights of linears, one for all that share a stored weight and read it alike. All that stood between the stored
 * weight and the product is folded into the codes.
 */
export class WeightQuantizer {
  readonly #model: Model;
  readonly #names: NameAuthority;
  readonly #stored = new Map<string, QuantizedWeight>();
  readonly #dequantized = new Map<string, string>();

  constructor(model: Model, names: NameAuthority) {
    this.#model = model;
    this.#names = names;
  }

  /** @returns the codes and the scales, for who multiplies with them itself */
  store(linear: Linear, scale: ScaleType): QuantizedWeight {
    return this.#store(linear, ...productForm(linear, scale));
  }

  /** @returns the value name of the dequantized weight, `[in, out]` */
  quantize(linear: Linear, scale: ScaleType): string {
    return this.#dequantize(linear, ...productForm(linear, scale), 1);
  }

  /** @returns the value name of the dequantized kernel of a Conv, in the shape it had */
  quantizeKernel(linear: Linear, scale: ScaleType): string {
    const form = { axis: 0, transposed: false, scale, factors: [] } as const;
    return this.#dequantize(linear, linear.weight, form, linear.weight.dims, 0);
  }

  #store({ weight, outFeatures }: Linear, source: Tensor, form: Int8Form, dims: readonly number[]): QuantizedWeight {
    // Linears that share a stored weight share its INT8 form if they read it the same way.
    const key = derivationKey(source, { as: 'int8', ...form });
    const known = this.#stored.get(key);
    if (known !== undefined) return known;
    const { graph } = this.#model;
    const named = (suffix: string): string => this.#names.unique(`${weight.name}_${suffix}`);
    const derived = (as: 'int8' | 'int8-scales') => ({ kind: 'derived', source, form: { as, ...form } }) as const;
    const codes = new Tensor(named('quantized'), 'int8', dims, derived('int8'));
    const scales = new Tensor(named('scale'), form.scale ?? 'float32', [outFeatures], derived('int8-scales'));
    graph.addInitializer(codes);
    graph.addInitializer(scales);
    const stored = { codes: codes.name, scales: scales.name };
    this.#stored.set(key, stored);
    return stored;
  }

  #dequantize(linear: Linear, source: Tensor, form: Int8Form, dims: readonly number[], channelAxis: 0 | 1): string {
    const { codes, scales } = this.#store(linear, source, form, dims);
    const known = this.#dequantized.get(codes);
    if (known !== undefined) return known;
    const { weight, node, outFeatures } = linear;
    const { graph } = this.#model;
    const named = (suffix: string): string => this.#names.unique(`${weight.name}_${suffix}`);
    const zeroName = named('zero_point');
    graph.addInitializer(Tensor.fromBytes(zeroName, 'int8', [outFeatures], new Uint8Array(outFeatures)));
    const output = named('DequantizeLinear_Output');
    const dequantize = new Node({
      opType: 'DequantizeLinear',
      name: named('DequantizeLinear'),
      inputs: [codes, scales, zeroName],
      outputs: [output],
      attributes: [int('axis', channelAxis)],
    });
    graph.nodes.splice(graph.nodes.indexOf(node), 0, dequantize);
    this.#dequantized.set(codes, output);
    return output;
  }
}

/** How the weight of a matrix product is stored, `[in, out]` whatever it was before. */
function productForm(
  { matrix, transposed, factors, inFeatures, outFeatures }: Linear,
  scale: ScaleType,
): [source: Tensor, form: Int8Form, dims: readonly number[]] {
  const [outSide, inSide] = transposed ? (['rows', 'columns'] as const) : (['columns', 'rows'] as const);
  const sides = { out: outSide, in: inSide, all: 'all' } as const;
  const form = {
    axis: transposed ? 0 : 1,
    transposed,
    scale,
    factors: factors.map(({ along, ...factor }): MatrixFactor => ({ along: sides[along], ...factor })),
  } as const;
  return [matrix, form, [inFeatures, outFeatures]];
}
