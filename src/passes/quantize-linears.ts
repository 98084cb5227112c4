import type { Linear } from '../analyze/linears.js';
import { int } from '../ir/attribute.js';
import { DataType, type DataTypeName } from '../ir/dtype.js';
import { type Model, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { asBytes, type DerivedForm, type MatrixFactor, Tensor } from '../ir/tensor.js';
import { indexGraph } from '../ir/traverse.js';
import { float32ToHalf } from '../numerics/half.js';
import type { ActivationScale } from '../numerics/int8.js';
import { derivationKey } from '../onnx/convert/jobs.js';
import { counted, type Pass, requireOpset } from './pass.js';

/** Element type of scales, which is what QuantizeLinear reads and DequantizeLinear makes. */
export type ScaleType = 'float32' | 'float16';

/** One linear to quantize, with the scale of its input. */
export interface QuantizedLinear {
  readonly linear: Linear;
  readonly activation: ActivationScale;
  /** Absent: float32. Where the linear computes in another type, Casts stand around it. */
  readonly scaleType?: ScaleType;
}

const DONE = 'wanq:quantized';

/** First opset whose QuantizeLinear and DequantizeLinear take scales of a type. */
export const SCALE_OPSET: Readonly<Record<ScaleType, number>> = { float32: 13, float16: 19 };

/**
 * Makes a MatMul of each linear, with QuantizeLinear -> DequantizeLinear before its activation, one pair for all linears that read it alike,
 * and an INT8 initializer with a per-channel DequantizeLinear that feeds the MatMul itself: all that stood between the stored weight and the
 * product is folded into the codes, since anything in between keeps runtimes from fusing an integer kernel. Weights are converted when the
 * model is saved, one at a time.
 *
 * Source of the operators: ONNX QuantizeLinear-13/19/21, DequantizeLinear-13/19/21.
 */
export function quantizeLinears(linears: readonly QuantizedLinear[]): Pass {
  return {
    name: 'quantize-linears',
    description: 'rewrites linears to INT8 with QuantizeLinear and DequantizeLinear',
    requires(model) {
      for (const { scaleType = 'float32' } of linears) {
        requireOpset(model, SCALE_OPSET[scaleType], `a ${scaleType} scale of a per-channel DequantizeLinear`);
      }
    },
    run(model) {
      const names = new NameAuthority(model.graph);
      const activations = new ActivationQuantizer(model, names);
      const weights = new WeightQuantizer(model, names);
      let quantized = 0;
      for (const { linear, activation, scaleType = 'float32' } of linears) {
        const { node } = linear;
        if (!model.graph.nodes.includes(node) || node.metadata.has(DONE)) continue;
        const input = activations.quantize(linear, activation, scaleType);
        if (linear.kind === 'Conv') node.inputs.splice(0, 2, input, weights.quantizeKernel(linear, scaleType));
        else becomeMatMul(model, linear, [input, weights.quantize(linear, scaleType)], scaleType, names);
        node.metadata = new Map([...node.metadata, [DONE, linear.role]]);
        quantized++;
      }
      const products = counted(quantized, 'linear');
      const pairs = `${counted(activations.count, 'QuantizeLinear')} for their inputs`;
      return products && `quantized ${products} with ${pairs}`;
    },
    ensures({ graph }) {
      const { producers } = indexGraph(graph);
      const broken = graph.nodes.find(
        (node) =>
          node.metadata.has(DONE) &&
          node.inputs.slice(0, 2).some((name) => producers.get(name)?.opType !== 'DequantizeLinear'),
      );
      return broken && `an input of ${broken.name} is not dequantized`;
    },
  };
}

/**
 * Turns a product into a MatMul of dequantized values. Behind it come a Cast, where the product computed in another type than the scales have,
 * and what a Gemm adds; the last of them takes over the name of the result.
 */
function becomeMatMul(
  { graph }: Model,
  { node, output, kind, computeType }: Linear,
  inputs: string[],
  scaleType: ScaleType,
  names: NameAuthority,
): void {
  const [, , bias] = node.inputs;
  const beta = node.floatAttribute('beta', 1);
  const behind: Node[] = [];
  if (computeType !== undefined && computeType !== scaleType) behind.push(castNode('', computeType));
  if (kind === 'Gemm' && bias) {
    const added = beta === 1 ? bias : names.unique(`${bias}_scaled`);
    if (added !== bias) {
      const factor = floatScalar(names.unique(`${bias}_beta`), computeType ?? 'float32', beta);
      graph.addInitializer(factor);
      insertBefore(graph.nodes, node, [
        new Node({ opType: 'Mul', name: added, inputs: [bias, factor.name], outputs: [added] }),
      ]);
    }
    // As Add, onnxruntime would make a Gemm of both again, which it has no integer kernel for.
    behind.push(new Node({ opType: 'Sum', inputs: ['', added], outputs: [] }));
  }
  let result = output;
  for (const step of behind.toReversed()) {
    step.name = names.unique(`${output}_${step.opType}`);
    step.outputs = [result];
    result = names.unique(`${output}_before_${step.opType}`);
    step.inputs[0] = result;
  }
  Object.assign(node, { opType: 'MatMul', domain: '', inputs, outputs: [result], attributes: [] });
  graph.nodes.splice(graph.nodes.indexOf(node) + 1, 0, ...behind);
}

class ActivationQuantizer {
  readonly #model: Model;
  readonly #names: NameAuthority;
  readonly #shared = new Map<string, string>();

  constructor(model: Model, names: NameAuthority) {
    this.#model = model;
    this.#names = names;
  }

  /** Pairs made. */
  get count(): number {
    return this.#shared.size;
  }

  /** @returns the value name that takes the activation's place */
  quantize(
    { activation, node, computeType }: Linear,
    { dtype, scale, zeroPoint }: ActivationScale,
    scaleType: ScaleType,
  ): string {
    const key = [activation, dtype, scale, zeroPoint, scaleType].join('\0');
    const shared = this.#shared.get(key);
    if (shared !== undefined) return shared;
    const { graph } = this.#model;
    const named = (suffix: string): string => this.#names.unique(`${activation}_${suffix}`);
    const scaleName = named('scale');
    const zeroName = named('zero_point');
    graph.addInitializer(floatScalar(scaleName, scaleType, scale));
    const code = dtype === 'int8' ? Int8Array.of(zeroPoint) : Uint8Array.of(zeroPoint);
    graph.addInitializer(Tensor.fromBytes(zeroName, dtype, [], asBytes(code)));
    const added: Node[] = [];
    let input = activation;
    if (computeType !== scaleType) {
      const cast = castNode(activation, scaleType);
      cast.name = named('Cast');
      input = named('Cast_Output');
      cast.outputs = [input];
      added.push(cast);
    }
    const quantized = named('QuantizeLinear_Output');
    const output = named('DequantizeLinear_Output');
    added.push(
      new Node({
        opType: 'QuantizeLinear',
        name: named('QuantizeLinear'),
        inputs: [input, scaleName, zeroName],
        outputs: [quantized],
      }),
      new Node({
        opType: 'DequantizeLinear',
        name: named('DequantizeLinear'),
        inputs: [quantized, scaleName, zeroName],
        outputs: [output],
      }),
    );
    insertBefore(graph.nodes, node, added);
    this.#shared.set(key, output);
    return output;
  }
}

class WeightQuantizer {
  readonly #model: Model;
  readonly #names: NameAuthority;
  readonly #done = new Map<string, string>();

  constructor(model: Model, names: NameAuthority) {
    this.#model = model;
    this.#names = names;
  }

  /** @returns the value name of the dequantized weight, `[in, out]` */
  quantize(linear: Linear, scale: ScaleType): string {
    const { matrix, transposed, factors, inFeatures, outFeatures } = linear;
    const [outSide, inSide] = transposed ? (['rows', 'columns'] as const) : (['columns', 'rows'] as const);
    const sides = { out: outSide, in: inSide, all: 'all' } as const;
    const form = {
      axis: transposed ? 0 : 1,
      transposed,
      scale,
      factors: factors.map(({ along, ...factor }): MatrixFactor => ({ along: sides[along], ...factor })),
    } as const;
    return this.#dequantized(linear, matrix, form, [inFeatures, outFeatures], 1);
  }

  /** @returns the value name of the dequantized kernel of a Conv, in the shape it had */
  quantizeKernel(linear: Linear, scale: ScaleType): string {
    const form = { axis: 0, transposed: false, scale, factors: [] } as const;
    return this.#dequantized(linear, linear.weight, form, linear.weight.dims, 0);
  }

  #dequantized(
    { weight, node, outFeatures }: Linear,
    source: Tensor,
    form: Omit<Extract<DerivedForm, { axis: unknown }>, 'as'>,
    dims: readonly number[],
    channelAxis: 0 | 1,
  ): string {
    // Linears that share a stored weight share its INT8 form if they read it the same way.
    const key = derivationKey(source, { as: 'int8', ...form });
    const done = this.#done.get(key);
    if (done !== undefined) return done;
    const { graph } = this.#model;
    const named = (suffix: string): string => this.#names.unique(`${weight.name}_${suffix}`);
    const derived = (as: 'int8' | 'int8-scales') => ({ kind: 'derived', source, form: { as, ...form } }) as const;
    const values = new Tensor(named('quantized'), 'int8', dims, derived('int8'));
    const scales = new Tensor(named('scale'), form.scale ?? 'float32', [outFeatures], derived('int8-scales'));
    const zeroName = named('zero_point');
    graph.addInitializer(values);
    graph.addInitializer(scales);
    graph.addInitializer(Tensor.fromBytes(zeroName, 'int8', [outFeatures], new Uint8Array(outFeatures)));
    const output = named('DequantizeLinear_Output');
    insertBefore(graph.nodes, node, [
      new Node({
        opType: 'DequantizeLinear',
        name: named('DequantizeLinear'),
        inputs: [values.name, scales.name, zeroName],
        outputs: [output],
        attributes: [int('axis', channelAxis)],
      }),
    ]);
    this.#done.set(key, output);
    return output;
  }
}

/** Without a name or an output yet. */
function castNode(input: string, to: DataTypeName): Node {
  return new Node({ opType: 'Cast', inputs: [input], outputs: [], attributes: [int('to', DataType[to])] });
}

function floatScalar(name: string, dtype: DataTypeName, value: number): Tensor {
  const float = Float32Array.of(value);
  if (dtype === 'float16') return Tensor.fromBytes(name, dtype, [], asBytes(float32ToHalf(float)));
  if (dtype === 'bfloat16') return Tensor.fromBytes(name, dtype, [], asBytes(float).slice(2));
  return Tensor.fromBytes(name, 'float32', [], asBytes(float));
}

function insertBefore(nodes: Node[], place: Node, added: Node[]): void {
  nodes.splice(nodes.indexOf(place), 0, ...added);
}
