import type { Linear } from '../analyze/linears.js';
import { Graph, Model, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { asBytes, Tensor } from '../ir/tensor.js';
import { float32ToHalf } from '../numerics/half.js';
import { derivationKey } from '../onnx/convert/jobs.js';
import { counted, type Pass, requireOpset } from './pass.js';
import { type QuantizedLinear, quantizeLinears, SCALE_OPSET } from './quantize-linears.js';

/** A linear that a switch quantizes. */
export interface SwitchedLinear {
  readonly quantized: QuantizedLinear;
  /** `[inFeatures]`, what each channel of its activation is divided by before it is quantized; absent: nothing. */
  readonly factors?: Float32Array | undefined;
}

/** Graph input that says of each linear whether it is quantized: bool `[linears]`. */
export const SWITCH_INPUT = 'wanq.switch';

/**
 * Puts each linear into an If: one branch is its quantized product, the other the product it was. Any subset of linears is then run quantized by one
 * session, and what is switched off is not computed. Activations stay as they are made, for both branches read them: smoothing divides them inside
 * the quantized one.
 *
 * The quantized branch is what {@link quantizeLinears} makes, so that runtimes fuse the same integer kernel in it.
 *
 * Source of the operator: ONNX If-11/13.
 */
export function switchLinears(linears: readonly SwitchedLinear[]): Pass {
  return {
    name: 'switch-linears',
    description: 'gives linears a switch between their quantized product and the one they had',
    requires(model) {
      for (const { quantized } of linears) {
        const { scaleType = 'float32' } = quantized;
        requireOpset(model, SCALE_OPSET[scaleType], `a ${scaleType} scale of a per-channel DequantizeLinear`);
      }
    },
    run(model) {
      const { graph } = model;
      if (graph.inputs.some(({ name }) => name === SWITCH_INPUT)) return undefined;
      const switcher = new Switcher(model);
      graph.inputs.push({ name: SWITCH_INPUT, dtype: 'bool', dims: [linears.length] });
      for (const [i, linear] of linears.entries()) switcher.add(linear, i);
      const all = counted(linears.length, 'linear');
      return all && `put switches on ${all}`;
    },
  };
}

class Switcher {
  readonly #model: Model;
  readonly #names: NameAuthority;
  /** Derived initializers by what they come of. */
  readonly #derived = new Map<string, string>();

  constructor(model: Model) {
    this.#model = model;
    this.#names = new NameAuthority(model.graph);
  }

  add(switched: SwitchedLinear, i: number): void {
    const { graph } = this.#model;
    const { linear } = switched.quantized;
    const { node, output } = linear;
    const prefix = `${SWITCH_INPUT}.${i}`;
    const position = Tensor.int64(this.#names.unique(`${prefix}.position`), [], [i]);
    graph.addInitializer(position);
    const condition = this.#names.unique(prefix);
    const gather = new Node({
      opType: 'Gather',
      name: condition,
      inputs: [SWITCH_INPUT, position.name],
      outputs: [condition],
    });
    const choice = new Node({
      opType: 'If',
      name: this.#names.unique(`${prefix}.If`),
      inputs: [condition],
      outputs: [output],
      attributes: [
        { name: 'then_branch', type: 'graph', value: this.#quantizedBranch(switched, prefix) },
        { name: 'else_branch', type: 'graph', value: this.#floatBranch(linear, prefix) },
      ],
    });
    graph.nodes.splice(graph.nodes.indexOf(node), 1, gather, choice);
  }

  #floatBranch({ node, output, computeType }: Linear, prefix: string): Graph {
    const result = this.#names.unique(`${prefix}.float`);
    node.outputs = node.outputs.map((name) => (name === output ? result : name));
    return new Graph({
      name: result,
      nodes: [node],
      initializers: [],
      inputs: [],
      outputs: [{ name: result, dtype: computeType ?? null, dims: null }],
    });
  }

  #quantizedBranch({ quantized, factors }: SwitchedLinear, prefix: string): Graph {
    const { opsets, irVersion } = this.#model;
    const { linear } = quantized;
    const { output, computeType } = linear;
    const node = new Node({ ...linear.node, inputs: [...linear.node.inputs], outputs: [output] });
    const branch = new Graph({
      name: this.#names.unique(`${prefix}.quantized`),
      nodes: [node],
      initializers: [],
      inputs: [],
      outputs: [{ name: output, dtype: computeType ?? null, dims: null }],
    });
    const smoothed = factors ? smooth(branch, { ...linear, node }, factors) : { ...linear, node };
    const pass = quantizeLinears([{ ...quantized, linear: smoothed }]);
    pass.run(new Model({ irVersion, opsets, graph: branch }));
    if (quantized.form === 'weights' && linear.kind !== 'Conv') keepApart(branch, node, linear);
    return this.#insideOf(branch, prefix);
  }

  /** Names no value of the branch as the graph around it does, and moves its initializers there, where they can be external. */
  #insideOf(branch: Graph, prefix: string): Graph {
    const renamed = new Map<string, string>();
    for (const tensor of branch.initializers.values()) renamed.set(tensor.name, this.#initializer(tensor, prefix));
    for (const { outputs } of branch.nodes) {
      for (const name of outputs) renamed.set(name, this.#names.unique(`${prefix}.${name}`));
    }
    const inside = (name: string): string => renamed.get(name) ?? name;
    for (const node of branch.nodes) {
      node.name = this.#names.unique(`${prefix}.${node.name}`);
      node.inputs = node.inputs.map(inside);
      node.outputs = node.outputs.map(inside);
    }
    branch.initializers = new Map();
    branch.outputs = branch.outputs.map((value) => ({ ...value, name: inside(value.name) }));
    return branch;
  }

  #initializer(tensor: Tensor, prefix: string): string {
    const { data } = tensor;
    const key = data.kind === 'derived' ? `${data.form.as}\0${derivationKey(data.source, data.form)}` : undefined;
    const known = key === undefined ? undefined : this.#derived.get(key);
    if (known !== undefined) return known;
    const moved = tensor.renamed(this.#names.unique(`${prefix}.${tensor.name}`));
    this.#model.graph.addInitializer(moved);
    if (key !== undefined) this.#derived.set(key, moved.name);
    return moved.name;
  }
}

/**
 * Multiplies a dequantized weight with ones. onnxruntime 1.30 makes a MatMulNBits of DequantizeLinear -> MatMul, and then looks for the codes inside the
 * branch and nowhere else.
 */
function keepApart(branch: Graph, product: Node, { outFeatures }: Linear): void {
  const weight = product.inputs[1] as string;
  const scales = branch.nodes.find(({ outputs }) => outputs[0] === weight)?.inputs[1] as string;
  const dtype = branch.initializers.get(scales)?.dtype === 'float16' ? 'float16' : 'float32';
  const values = new Float32Array(outFeatures).fill(1);
  const bytes = asBytes(dtype === 'float16' ? float32ToHalf(values) : values);
  const ones = Tensor.fromBytes(`${weight}_ones`, dtype, [outFeatures], bytes);
  branch.addInitializer(ones);
  const output = `${weight}_apart`;
  const mul = new Node({ opType: 'Mul', name: output, inputs: [weight, ones.name], outputs: [output] });
  branch.nodes.splice(branch.nodes.indexOf(product), 0, mul);
  product.inputs[1] = output;
}

/** Divides the activation of the one linear of a graph, whose weight is to be read with the factors it then has. */
function smooth(branch: Graph, linear: Linear, factors: Float32Array): Linear {
  const { node, activation, computeType } = linear;
  const inverse = factors.map((factor) => 1 / factor);
  const dtype = computeType === 'float16' ? 'float16' : 'float32';
  const bytes = asBytes(dtype === 'float16' ? float32ToHalf(inverse) : inverse);
  const factor = Tensor.fromBytes(`${activation}_smoothing`, dtype, [factors.length], bytes);
  branch.addInitializer(factor);
  const output = `${activation}_smoothed`;
  const mul = new Node({ opType: 'Mul', name: output, inputs: [activation, factor.name], outputs: [output] });
  branch.nodes.unshift(mul);
  node.inputs[0] = output;
  const values = Tensor.float32('', [factors.length], factors);
  return { ...linear, activation: output, factors: [...linear.factors, { along: 'in', values, divides: false }] };
}
