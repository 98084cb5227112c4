import type { Linear } from '../../analyze/linears.js';
import { int } from '../../ir/attribute.js';
import { DataType, type DataTypeName } from '../../ir/dtype.js';
import { type Graph, type Model, Node } from '../../ir/graph.js';
import { NameAuthority } from '../../ir/names.js';
import { asBytes, Tensor } from '../../ir/tensor.js';
import { float32ToHalf } from '../../numerics/half.js';
import { WeightQuantizer } from './weight-quantizer.js';

/** Element type of scales, which is what QuantizeLinear reads and DequantizeLinear makes. */
export type ScaleType = 'float32' | 'float16';

/** First opset whose QuantizeLinear and DequantizeLinear take scales of a type. */
export const SCALE_OPSET: Readonly<Record<ScaleType, number>> = { float32: 13, float16: 19 };

/** What the forms of one model share: its names, and weights that are quantized once for all who read them alike. */
export class FormContext {
  readonly model: Model;
  readonly names: NameAuthority;
  readonly weights: WeightQuantizer;

  constructor(model: Model) {
    this.model = model;
    this.names = new NameAuthority(model.graph);
    this.weights = new WeightQuantizer(model, this.names);
  }

  get graph(): Graph {
    return this.model.graph;
  }

  /** Adds a scalar. @returns its name */
  scalar(wanted: string, dtype: DataTypeName, value: number): string {
    const tensor = scalarTensor(this.names.unique(wanted), dtype, value);
    this.graph.addInitializer(tensor);
    return tensor.name;
  }

  /** A node with one output, named after it. */
  node(opType: string, inputs: string[], output: string, attributes: Node['attributes'] = []): Node {
    return new Node({ opType, name: this.names.unique(`${output}_${opType}`), inputs, outputs: [output], attributes });
  }

  cast(input: string, output: string, to: DataTypeName): Node {
    return this.node('Cast', [input], output, [int('to', DataType[to])]);
  }

  insertBefore(place: Node, added: readonly Node[]): void {
    const { nodes } = this.graph;
    nodes.splice(nodes.indexOf(place), 0, ...added);
  }

  /**
   * Makes another operator of a linear's node, with operators behind it in a row, the last of which takes over the name of the result. Its name
   * and metadata stay.
   *
   * @param steps operators behind it, each with its inputs beside the first
   */
  replace({ node, output }: Linear, product: Product, steps: readonly Step[]): void {
    const { nodes } = this.graph;
    const behind = steps.map(({ opType, inputs = [], attributes = [] }) => {
      const name = this.names.unique(`${output}_${opType}`);
      return new Node({ opType, name, inputs: ['', ...inputs], outputs: [''], attributes });
    });
    let result = output;
    for (const step of behind.toReversed()) {
      step.outputs = [result];
      result = this.names.unique(`${output}_before_${step.opType}`);
      step.inputs[0] = result;
    }
    Object.assign(node, { domain: '', attributes: [], ...product, outputs: [result] });
    nodes.splice(nodes.indexOf(node) + 1, 0, ...behind);
  }

  /**
   * Has a Conv read another activation and kernel, and its bias in their type.
   * @param input, kernel of `type`
   */
  convolve(linear: Linear, input: string, kernel: string, type: ScaleType): void {
    const { node, computeType } = linear;
    const { opType, attributes } = node;
    const [, , bias] = node.inputs;
    const inputs = [input, kernel];
    if (bias && computeType === type) inputs.push(bias);
    else if (bias) {
      const cast = this.names.unique(`${bias}_Cast_Output`);
      this.insertBefore(node, [this.cast(bias, cast, type)]);
      inputs.push(cast);
    }
    this.replace(linear, { opType, inputs, attributes }, castBack(linear, type));
  }

  /** What a Gemm adds to its product, as a step behind it; none of other products. */
  bias({ node, kind, computeType }: Linear, opType: 'Sum' | 'Add'): Step[] {
    const [, , bias] = node.inputs;
    if (kind !== 'Gemm' || !bias) return [];
    const beta = node.floatAttribute('beta', 1);
    if (beta === 1) return [{ opType, inputs: [bias] }];
    const added = this.names.unique(`${bias}_scaled`);
    const factor = this.scalar(`${bias}_beta`, computeType ?? 'float32', beta);
    this.insertBefore(node, [new Node({ opType: 'Mul', name: added, inputs: [bias, factor], outputs: [added] })]);
    return [{ opType, inputs: [added] }];
  }
}

/** What a linear's node becomes. */
export interface Product {
  readonly opType: string;
  readonly inputs: string[];
  /** Absent: none. */
  readonly attributes?: Node['attributes'];
}

/** An operator behind a product. */
export interface Step {
  readonly opType: string;
  /** Beside the value before it. */
  readonly inputs?: readonly string[];
  readonly attributes?: Node['attributes'];
}

export function castStep(to: DataTypeName): Step {
  return { opType: 'Cast', attributes: [int('to', DataType[to])] };
}

/** The Cast from the type a product has to the one it had, where they differ. */
export function castBack({ computeType }: Linear, from: DataTypeName): Step[] {
  return computeType === undefined || computeType === from ? [] : [castStep(computeType)];
}

function scalarTensor(name: string, dtype: DataTypeName, value: number): Tensor {
  const float = Float32Array.of(value);
  if (dtype === 'float16') return Tensor.fromBytes(name, dtype, [], asBytes(float32ToHalf(float)));
  if (dtype === 'bfloat16') return Tensor.fromBytes(name, dtype, [], asBytes(float).slice(2));
  if (dtype === 'int8') return Tensor.fromBytes(name, dtype, [], asBytes(Int8Array.of(value)));
  if (dtype === 'uint8') return Tensor.fromBytes(name, dtype, [], Uint8Array.of(value));
  return Tensor.fromBytes(name, 'float32', [], asBytes(float));
}
