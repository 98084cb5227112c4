import type { Linear } from '../analyze/linears.js';
import { type Operand, type ScaleContext, scaleSites } from '../analyze/scale-sites.js';
import { findAttentions } from '../analyze/structure/attention.js';
import { typeOf } from '../analyze/value-types.js';
import type { DataTypeName } from '../ir/dtype.js';
import { type Graph, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { aligned, asBytes, Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph, subgraphs, valuesRead } from '../ir/traverse.js';
import { float32ToHalf, halfToFloat32 } from '../numerics/half.js';
import { counted, type Pass } from './pass.js';

/** An activation to divide, and the linears whose weights make up for it. */
export interface SmoothedActivation {
  /** All of them read the same activation. */
  readonly linears: readonly Linear[];
  /** `[inFeatures]`, what each channel of the activation is divided by. */
  readonly factors: Float32Array;
}

export interface SmoothOptions {
  readonly activations: readonly SmoothedActivation[];
  /** Linears whose output channels may be scaled, since their weights are written anew. */
  readonly writable: readonly Linear[];
  /** Receives each linear that is changed, as it is afterwards: its weight is to be read with the factors it has then. */
  readonly changed: Map<Node, Linear>;
}

/** Types that factors are stored in. */
const TYPES: ReadonlySet<DataTypeName> = new Set(['float32', 'float16']);

const DONE = 'wanq:smoothed';

/**
 * Key of a node's metadata that holds the factors its input is divided by, FP16 in base64, where another linear's weights took them over: of the
 * two weights, nothing else tells which has which.
 */
export const INPUT_FACTORS = 'wanq:input-factors';

/** Key of the metadata of that other linear: the name of the node whose input factors its output channels are divided by. */
export const OUTPUT_DIVIDED_FOR = 'wanq:output-divided-for';

/**
 * Divides activations by one factor for each channel, which the weights behind them are to be multiplied with: the product stays what it was.
 * Where a norm, a modulation or a linear makes the activation, its constants and weights take the factors over; behind a nonlinear operator stands
 * a Mul. Constants that lie in files of their own stay, and a Mul of constants is left to runtimes, which compute it when they load the model.
 *
 * Source: SmoothQuant (arXiv 2211.10438), section 4; through an attention's values and modulations as the graph allows it.
 */
export function smoothActivations({ activations, writable, changed }: SmoothOptions): Pass {
  return {
    name: 'smooth-activations',
    description: 'moves the range of large channels from activations into weights',
    run({ graph }) {
      const open = activations.filter(({ linears }) => linears.every(({ node }) => !node.metadata.has(DONE)));
      const smoother = new Smoother(graph, writable, changed);
      let folded = 0;
      for (const activation of open) if (smoother.smooth(activation)) folded++;
      const all = counted(open.length, 'activation');
      return all && `smoothed ${all}, ${folded} of them where they are made`;
    },
  };
}

class Smoother {
  readonly #graph: Graph;
  readonly #index: GraphIndex;
  readonly #names: NameAuthority;
  readonly #context: ScaleContext;
  readonly #changed: Map<Node, Linear>;

  constructor(graph: Graph, writable: readonly Linear[], changed: Map<Node, Linear>) {
    const index = indexGraph(graph);
    this.#graph = graph;
    this.#index = index;
    this.#names = new NameAuthority(graph);
    this.#changed = changed;
    const products = new Set(writable.map(({ node }) => node));
    const stated = [...graph.valueInfo, ...graph.inputs];
    const captured = graph.nodes.filter((node) => subgraphs(node).length > 0).flatMap((node) => [...valuesRead(node)]);
    this.#context = {
      graph,
      index,
      exposed: new Set([...graph.outputs.map(({ name }) => name), ...captured]),
      shapes: new Map(stated.flatMap(({ name, dims }) => (dims ? [[name, dims] as const] : []))),
      attentions: findAttentions(graph, index, (node) => products.has(node)),
      linears: new Map(writable.map((linear) => [linear.output, linear])),
    };
  }

  /** @returns whether no node reads and writes every token for it */
  smooth({ linears, factors }: SmoothedActivation): boolean {
    const [{ activation, inFeatures, computeType }] = linears as [Linear];
    const readers = new Set(linears.map(({ node }) => node));
    const found = scaleSites(activation, inFeatures, readers, this.#context);
    const hasFactors = ({ node, input }: Operand): boolean => TYPES.has(this.#typeOf(node.inputs[input] as string));
    const sites = found?.operands.every(hasFactors) ? found : undefined;
    const types = sites?.operands.map(({ node, input }) => this.#typeOf(node.inputs[input] as string)) ?? [computeType];
    const inverse = reciprocals(factors, types.includes('float16'));
    if (sites) {
      for (const { node, input } of sites.operands) {
        node.inputs[input] = this.#multiplied(node.inputs[input] as string, inverse, node);
      }
      for (const linear of sites.linears) this.#scale(linear, 'out', inverse);
      this.#note(sites.linears, linears[0] as Linear, reciprocals(inverse));
    }
    const value = sites ? activation : this.#multiplied(activation, inverse, this.#first(readers), computeType);
    for (const linear of linears) {
      linear.node.inputs[0] = value;
      linear.node.metadata = new Map([...linear.node.metadata, [DONE, '']]);
      this.#scale({ ...linear, activation: value }, 'in', reciprocals(inverse));
    }
    return sites !== undefined;
  }

  #scale(linear: Linear, along: 'in' | 'out', factors: Float32Array): void {
    const known = this.#changed.get(linear.node) ?? linear;
    const values = Tensor.float32('', [factors.length], factors);
    const changed = { ...known, factors: [...known.factors, { along, values, divides: false }] };
    this.#changed.set(linear.node, along === 'in' ? { ...changed, activation: linear.activation } : changed);
  }

  #note(makers: readonly Linear[], { node: reader }: Linear, factors: Float32Array): void {
    if (makers.length === 0) return;
    const text = Buffer.from(asBytes(float32ToHalf(factors))).toString('base64');
    reader.metadata = new Map([...reader.metadata, [INPUT_FACTORS, text]]);
    for (const { node } of makers) node.metadata = new Map([...node.metadata, [OUTPUT_DIVIDED_FOR, reader.name]]);
  }

  /** The reader that stands first, before which the value is made. */
  #first(readers: ReadonlySet<Node>): Node {
    return this.#graph.nodes.find((node) => readers.has(node)) as Node;
  }

  #typeOf(value: string): DataTypeName {
    return typeOf(value, this.#graph, this.#index) ?? 'float32';
  }

  #multiplied(value: string, factors: Float32Array, before: Node, dtype?: DataTypeName): string {
    const graph = this.#graph;
    const constant = graph.initializers.get(value);
    const product = constant && multipliedConstant(constant, factors);
    if (product) {
      const named = product.renamed(this.#names.unique(`${value}_smoothed`));
      graph.addInitializer(named);
      return named.name;
    }
    const type = dtype ?? this.#typeOf(value);
    const output = this.#names.unique(`${value}_smoothed`);
    const bytes = asBytes(type === 'float16' ? float32ToHalf(factors) : factors);
    const factor = Tensor.fromBytes(this.#names.unique(`${value}_smoothing`), type, [factors.length], bytes);
    graph.addInitializer(factor);
    const node = new Node({ opType: 'Mul', name: output, inputs: [value, factor.name], outputs: [output] });
    graph.nodes.splice(graph.nodes.indexOf(before), 0, node);
    return output;
  }
}

/** @returns the product of a constant that the graph itself holds and whose last axis has the factors; else undefined */
function multipliedConstant({ name, dtype, dims, data }: Tensor, factors: Float32Array): Tensor | undefined {
  if (data.kind !== 'bytes' || !TYPES.has(dtype) || dims.at(-1) !== factors.length) return undefined;
  const { buffer, byteOffset, byteLength } = aligned(data.bytes, 4);
  const values =
    dtype === 'float16'
      ? halfToFloat32(new Uint16Array(buffer, byteOffset, byteLength / 2))
      : new Float32Array(buffer, byteOffset, byteLength / 4);
  const product = values.map((value, i) => value * (factors[i % factors.length] as number));
  return Tensor.fromBytes(name, dtype, dims, asBytes(dtype === 'float16' ? float32ToHalf(product) : product));
}

/** @param half whether they are to be values of FP16, so that weights can make up for what is stored in it */
function reciprocals(factors: Float32Array, half = false): Float32Array {
  const exact = factors.map((factor) => 1 / factor);
  return half ? halfToFloat32(float32ToHalf(exact)) : exact;
}

/** Factors that a node's input is divided by, as its metadata hold them. @returns `[inFeatures]`, or undefined where they hold none */
export function inputFactors({ metadata }: Node): Float32Array | undefined {
  const bytes = Buffer.from(metadata.get(INPUT_FACTORS) ?? '', 'base64');
  if (bytes.length === 0 || bytes.length % 2 !== 0) return undefined;
  return halfToFloat32(new Uint16Array(Uint8Array.from(bytes).buffer));
}

/** Whether an activation is of a type that can be smoothed. */
export function isSmoothable({ computeType, kind }: Linear): boolean {
  return kind !== 'Conv' && computeType !== undefined && TYPES.has(computeType);
}
