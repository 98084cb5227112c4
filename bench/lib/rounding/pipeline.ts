import { copyFile, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Linear } from '../../../src/analyze/linears.js';
import { HeldTokens } from '../../../src/calibrate/file.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { type DerivedForm, Tensor } from '../../../src/ir/tensor.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { type QuantizedWeight, quantizeWeight } from '../../../src/numerics/int8.js';
import { decodeFloats, readFactors } from '../../../src/onnx/convert/tile.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { runPasses } from '../../../src/passes/pass.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { smoothActivations } from '../../../src/passes/smooth-activations.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import type { Smoothing } from '../../../src/quantize/options.js';
import { bindPlan } from '../../../src/quantize/quantize.js';
import type { Scheme } from '../../../src/quantize/scheme.js';
import type { Target } from '../../../src/quantize/target.js';
import { copyTree } from '../../../src/util/files.js';
import { MICRO_PIPELINE } from '../micro.js';
import type { ActivationCodes } from './bias-correction.js';
import type { WeightRows } from './weight.js';

/** A linear whose weight is still to be rounded. */
export interface OpenLinear {
  readonly role: string;
  /** Its input as it is multiplied: what linears have in common that read the same. */
  readonly activation: string;
  /** Input features that are kept of calibration, `[tokens, inputs]`, smoothed. */
  readonly tokens: Float32Array;
  readonly codes: ActivationCodes;
  /** With the factors of smoothing. */
  readonly weight: WeightRows;
  readonly bias: Float32Array;
}

/** What a way to round decides of a linear. */
export interface Rounded extends QuantizedWeight {
  /** Absent: as it was. */
  readonly bias?: Float32Array;
}

export interface Quantization {
  readonly scheme: Exclude<Scheme, 'auto'>;
  /** `webgpu`: weights alone. */
  readonly target: Target;
  readonly smooth: Smoothing;
}

/** Names of the initializers that rounding decides. */
interface Slots {
  readonly codes: string;
  readonly scales: string;
  readonly bias: string;
}

/**
 * The micro pipeline as `wanq quantize` would write it, ranges and smoothing chosen, with the codes and scales of its weights and its biases left
 * open.
 */
export class OpenPipeline {
  readonly linears: readonly OpenLinear[];
  readonly #loaded: LoadedModel;
  readonly #slots: ReadonlyMap<OpenLinear, Slots>;

  private constructor(loaded: LoadedModel, slots: ReadonlyMap<OpenLinear, Slots>) {
    this.#loaded = loaded;
    this.#slots = slots;
    this.linears = [...slots.keys()];
  }

  /** @throws Error where rounding to nearest here does not give the codes and scales that `wanq quantize` does */
  static async open({ scheme, target, smooth }: Quantization, calibration: string): Promise<OpenPipeline> {
    const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
    const given = { scheme, target, smooth, calibration, pipeline: MICRO_PIPELINE };
    const bound = await bindPlan(loaded, { ...given, method: 'auto', percentile: 99.999, keep: [] }, true);
    const { model } = loaded;
    const { graph } = model;
    const changed = new Map<Node, Linear>();
    const writable = bound.quantized.map(({ linear }) => linear);
    runPasses(model, [smoothActivations({ activations: bound.smoothed, writable, changed })]);
    const final = bound.quantized.map((each) => ({ ...each, linear: changed.get(each.linear.node) ?? each.linear }));
    const biases = new Map<Linear, string>();
    for (const { linear } of final) biases.set(linear, await ownBias(linear, loaded));
    runPasses(model, [quantizeLinears(final), topologicalSort, removeUnused]);

    const slots = new Map<OpenLinear, Slots>();
    const held = await HeldTokens.open(calibration);
    try {
      for (const [i, each] of final.entries()) {
        const { linear } = each;
        const [codes, scales] = ['int8', 'int8-scales'].map((as) => derivedTensor(graph, linear, as));
        const bias = biases.get(linear);
        if (!codes || !scales || bias === undefined) throw new Error(`${linear.role} has no codes`);
        const weight = await readWeight(linear, codes, loaded);
        await assertSameCodes(weight, codes, scales, loaded);
        const { activation } = writable[i] as Linear;
        const factors = bound.smoothed.find(({ linears }) => linears.includes(writable[i] as Linear))?.factors;
        const whole = concatenated([...(await held.read(activation)).values()]);
        const open: OpenLinear = {
          role: linear.role,
          activation: linear.activation,
          tokens: factors ? whole.map((x, at) => x / (factors[at % factors.length] as number)) : whole,
          codes: each.form === 'weights' ? 'none' : each.form === 'integer-dynamic' ? 'token' : each.activation,
          weight,
          bias: await floats(graph.initializers.get(bias) as Tensor, loaded),
        };
        slots.set(open, { codes: codes.name, scales: scales.name, bias });
        // onnxruntime's CPU provider would quantize the input of a DequantizeLinear's product by itself.
        if (each.form === 'weights') foldDequantized(graph, codes.name);
      }
    } finally {
      await held.close();
    }
    runPasses(model, [removeUnused]);
    return new OpenPipeline(loaded, slots);
  }

  /** Writes a complete pipeline folder. */
  async write(folder: string, rounded: ReadonlyMap<OpenLinear, Rounded>): Promise<void> {
    const { graph } = this.#loaded.model;
    for (const [linear, { codes, scales, bias }] of this.#slots) {
      const { values, scales: steps, bias: corrected = linear.bias } = rounded.get(linear) as Rounded;
      const { outputs, inputs } = linear.weight;
      const transposed = new Int8Array(values.length);
      values.forEach((code, i) => {
        transposed[(i % inputs) * outputs + Math.floor(i / inputs)] = code;
      });
      if (linear.codes === 'none') {
        const weight = Float32Array.from(transposed, (code, i) => code * (steps[i % outputs] as number));
        graph.addInitializer(Tensor.float32(codes, [inputs, outputs], weight));
      } else {
        graph.addInitializer(Tensor.fromBytes(codes, 'int8', [inputs, outputs], new Uint8Array(transposed.buffer)));
        graph.addInitializer(Tensor.float32(scales, [outputs], steps));
      }
      graph.addInitializer(Tensor.float32(bias, [outputs], corrected));
    }
    await mkdir(folder);
    for (const name of await readdir(MICRO_PIPELINE)) {
      if (name !== 'transformer') await copyTree(path.join(MICRO_PIPELINE, name), path.join(folder, name), true);
    }
    const [from, to] = [MICRO_PIPELINE, folder].map((root) => path.join(root, 'transformer')) as [string, string];
    await mkdir(to);
    for (const name of await readdir(from)) {
      if (name.endsWith('.json')) await copyFile(path.join(from, name), path.join(to, name));
    }
    await saveModel(this.#loaded.model, this.#loaded, to);
  }

  close(): Promise<void> {
    return this.#loaded.close();
  }
}

/** Gives the Add behind a linear an initializer of its own, with what smoothing multiplied its bias with. @returns its name */
async function ownBias({ output, role }: Linear, { model: { graph }, read }: LoadedModel): Promise<string> {
  const { producers, consumers } = indexGraph(graph);
  const [add, ...others] = (consumers.get(output) ?? []).map(({ node }) => node);
  if (add?.opType !== 'Add' || others.length > 0) throw new Error(`${role} has no bias behind it`);
  const position = add.inputs[0] === output ? 1 : 0;
  const operand = add.inputs[position] as string;
  const parts = producers.get(operand)?.opType === 'Mul' ? (producers.get(operand) as Node).inputs : [operand];
  const constants = parts.map((part) => graph.initializers.get(part));
  if (constants.some((constant) => constant === undefined)) throw new Error(`the bias of ${role} is no constant`);
  const values = await Promise.all(constants.map((constant) => floats(constant as Tensor, { read })));
  const bias = values.reduce((product, factor) => product.map((x, i) => x * (factor[i] as number)));
  const name = `${role}.bias_own`;
  graph.addInitializer(Tensor.float32(name, [bias.length], bias));
  add.inputs[position] = name;
  return name;
}

/** The tensor that quantizeLinears made of a linear's weight. */
function derivedTensor(graph: Graph, { matrix }: Linear, as: string): Tensor | undefined {
  return [...graph.initializers.values()].find(
    ({ data }) => data.kind === 'derived' && data.source === matrix && data.form.as === as,
  );
}

/** A linear's weight as `codes` come of it. */
async function readWeight(linear: Linear, codes: Tensor, loaded: LoadedModel): Promise<WeightRows> {
  const { matrix, transposed, outFeatures: outputs, inFeatures: inputs } = linear;
  const { form } = codes.data as { form: DerivedForm };
  const factors = await readFactors(matrix, form, loaded.read);
  const stored = await floats(matrix, loaded);
  const columns = matrix.dims[1] as number;
  const values = new Float32Array(stored.length);
  stored.forEach((w, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const at = transposed ? i : column * inputs + row;
    values[at] = w * (factors.rows?.[row] ?? 1) * (factors.columns?.[column] ?? 1);
  });
  return { values, outputs, inputs };
}

async function assertSameCodes(weight: WeightRows, codes: Tensor, scales: Tensor, source: LoadedModel): Promise<void> {
  const { values, outputs, inputs } = weight;
  const ours = quantizeWeight(values, outputs, inputs, 0, true);
  const theirs = [await source.read(codes), await source.read(scales)];
  const same = [ours.values, ours.scales].every(({ buffer }, i) => Buffer.from(buffer).equals(theirs[i] as Uint8Array));
  if (!same) throw new Error(`${codes.name} would have other codes than quantize gives it`);
}

/** Makes one initializer of a DequantizeLinear and its codes, under the name of the codes. */
function foldDequantized(graph: Graph, codes: string): void {
  const dequantize = graph.nodes.find(({ opType, inputs }) => opType === 'DequantizeLinear' && inputs[0] === codes);
  const output = dequantize?.outputs[0];
  for (const node of graph.nodes) node.inputs = node.inputs.map((input) => (input === output ? codes : input));
  graph.nodes = graph.nodes.filter((node) => node !== dequantize);
}

async function floats(tensor: Tensor, source: Pick<LoadedModel, 'read'>): Promise<Float32Array> {
  return Float32Array.from(decodeFloats(tensor.dtype, await source.read(tensor), tensor.elements));
}

function concatenated(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => {
    whole.set(part, at);
    return at + part.length;
  }, 0);
  return whole;
}
