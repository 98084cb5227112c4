import type { Linear } from '../analyze/linears.js';
import { int } from '../ir/attribute.js';
import { type Model, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { asBytes, Tensor } from '../ir/tensor.js';
import { indexGraph } from '../ir/traverse.js';
import type { ActivationScale } from '../numerics/int8.js';
import { type Pass, requireOpset } from './pass.js';

/** One linear to quantize, with the scale of its input. */
export interface QuantizedLinear {
  readonly linear: Linear;
  readonly activation: ActivationScale;
}

const DONE = 'wanq:quantized';

/**
 * Puts QuantizeLinear -> DequantizeLinear before the activation of each linear, one pair for all linears that read it alike, and replaces its weight by an INT8 initializer with a
 * per-channel DequantizeLinear that feeds the MatMul itself: transposes and casts between them are folded into the stored weight, since
 * anything in between keeps runtimes from fusing an integer kernel. Weights are converted when the model is saved, one at a time.
 *
 * Source of the operators: ONNX QuantizeLinear-13/19/21, DequantizeLinear-13/19/21.
 */
export function quantizeLinears(linears: readonly QuantizedLinear[]): Pass {
  return {
    name: 'quantize-linears',
    description: 'rewrites linears to INT8 with QuantizeLinear and DequantizeLinear',
    requires(model) {
      requireOpset(model, 13, 'a per-channel DequantizeLinear');
    },
    run(model) {
      const names = new NameAuthority(model.graph);
      const activations = new ActivationQuantizer(model, names);
      const weights = new WeightQuantizer(model, names);
      let modified = false;
      for (const { linear, activation } of linears) {
        const { node } = linear;
        if (!model.graph.nodes.includes(node) || node.metadata.has(DONE)) continue;
        node.inputs[0] = activations.quantize(linear, activation);
        node.inputs[linear.weightInput] = weights.quantize(linear);
        node.metadata = new Map([...node.metadata, [DONE, linear.role]]);
        modified = true;
      }
      return modified;
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

class ActivationQuantizer {
  readonly #model: Model;
  readonly #names: NameAuthority;
  readonly #shared = new Map<string, string>();

  constructor(model: Model, names: NameAuthority) {
    this.#model = model;
    this.#names = names;
  }

  /** @returns the value name that takes the activation's place */
  quantize({ activation, node }: Linear, { dtype, scale, zeroPoint }: ActivationScale): string {
    const key = `${activation}\0${dtype}\0${scale}\0${zeroPoint}`;
    const shared = this.#shared.get(key);
    if (shared !== undefined) return shared;
    const { graph } = this.#model;
    const named = (suffix: string): string => this.#names.unique(`${activation}_${suffix}`);
    const scaleName = named('scale');
    const zeroName = named('zero_point');
    graph.addInitializer(Tensor.float32(scaleName, [], [scale]));
    const code = dtype === 'int8' ? Int8Array.of(zeroPoint) : Uint8Array.of(zeroPoint);
    graph.addInitializer(Tensor.fromBytes(zeroName, dtype, [], asBytes(code)));
    const quantized = named('QuantizeLinear_Output');
    const output = named('DequantizeLinear_Output');
    insertBefore(graph.nodes, node, [
      new Node({
        opType: 'QuantizeLinear',
        name: named('QuantizeLinear'),
        inputs: [activation, scaleName, zeroName],
        outputs: [quantized],
      }),
      new Node({
        opType: 'DequantizeLinear',
        name: named('DequantizeLinear'),
        inputs: [quantized, scaleName, zeroName],
        outputs: [output],
      }),
    ]);
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

  /** @returns the value name of the dequantized weight */
  quantize(linear: Linear): string {
    const { weight, node, transposed } = linear;
    // Linears that share a stored weight share its INT8 form if they read it the same way.
    const key = `${weight.name}\0${linear.transposed}\0${linear.channelAxis}`;
    const done = this.#done.get(key);
    if (done !== undefined) return done;
    const { graph } = this.#model;
    const named = (suffix: string): string => this.#names.unique(`${weight.name}_${suffix}`);
    // The channel axis as the node reads the weight, against the matrix that is stored.
    const axis = (transposed ? 1 - linear.channelAxis : linear.channelAxis) as 0 | 1;
    const derived = (as: 'int8' | 'int8-scales') =>
      ({ kind: 'derived', source: weight, form: { as, axis, transposed } }) as const;
    const dims = transposed ? weight.dims.toReversed() : weight.dims;
    const values = new Tensor(named('quantized'), 'int8', dims, derived('int8'));
    const scales = new Tensor(named('scale'), 'float32', [linear.outFeatures], derived('int8-scales'));
    const zeroName = named('zero_point');
    graph.addInitializer(values);
    graph.addInitializer(scales);
    graph.addInitializer(Tensor.fromBytes(zeroName, 'int8', [linear.outFeatures], new Uint8Array(linear.outFeatures)));
    const output = named('DequantizeLinear_Output');
    insertBefore(graph.nodes, node, [
      new Node({
        opType: 'DequantizeLinear',
        name: named('DequantizeLinear'),
        inputs: [values.name, scales.name, zeroName],
        outputs: [output],
        attributes: [int('axis', linear.channelAxis)],
      }),
    ]);
    this.#done.set(key, output);
    return output;
  }
}

function insertBefore(nodes: Node[], place: Node, added: Node[]): void {
  nodes.splice(nodes.indexOf(place), 0, ...added);
}
