import { constantTensor } from '../analyze/constants.js';
import type { Linear } from '../analyze/linears.js';
import { findAttentions } from '../analyze/structure/attention.js';
import { valueTypes } from '../analyze/value-types.js';
import { DataType, type DataTypeName } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import { aligned, type Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph, subgraphs, type Use, valuesRead } from '../ir/traverse.js';
import { HALF_MAX } from '../numerics/half.js';

export interface ComputeFloat16Options {
  /**
   * Products to compute in FP16, among those of the graph that compute in FP32. Of one that computes in FP16 already, as quantized ones with
   * FP16 scales do, what stands behind it is taken on. One that reads a float32 DequantizeLinear stays as it is.
   */
  readonly linears: readonly Linear[];
  /** Whether the two products around every softmax are computed in FP16 too. */
  readonly attention: boolean;
  /** Largest magnitude seen of a value, by its name; values that were not looked at are absent. */
  readonly ranges: ReadonlyMap<string, number>;
  /** Receives the values that are too large for FP16 and keep a product in FP32. */
  readonly overflow: string[];
}

/**
 * How much larger than in calibration a value may become before FP16 ends. Calibration sees some prompts and seeds, and activations have heavy
 * tails; up to the limit FP16 loses no precision, so the room costs nothing but the few linears whose inputs are as large as that.
 */
export const FLOAT16_MARGIN = 4;

/** Whether a value is too large for FP16, going by the largest magnitude that calibration saw of it; so is NaN. */
export function exceedsFloat16(magnitude: number): boolean {
  return !(magnitude * FLOAT16_MARGIN <= HALF_MAX);
}

/** Operators that move values about, with the inputs that they move; null: all. */
const MOVING: ReadonlyMap<string, readonly number[] | null> = new Map([
  ...['Identity', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Slice', 'Split', 'Expand'].map(
    (opType): [string, readonly number[]] => [opType, [0]],
  ),
  ['Concat', null],
]);

/** Operators that may compute in FP16, with the inputs of the type they compute in; null: all. */
export const OPERANDS: ReadonlyMap<string, readonly number[] | null> = new Map([
  ...MOVING,
  ['Gelu', [0]],
  ['Add', [0, 1]],
  ['MatMul', [0, 1]],
  ['FusedMatMul', [0, 1]],
  ['Gemm', [0, 1, 2]],
  ['Conv', [0, 1, 2]],
]);

/** Inputs of a node that are values of the type it computes in. */
export function operands(node: Node): string[] {
  const positions = OPERANDS.get(node.opType);
  const names = positions === null ? node.inputs : (positions ?? []).map((position) => node.inputs[position] ?? '');
  return names.filter((name) => name !== '');
}

/** Whether a node has the outputs that an operator of {@link OPERANDS} has; a model may say anything, and the type of others is not known. */
function isWhole({ opType, outputs }: Node): boolean {
  return opType === 'Split' || outputs.length === 1;
}

export function isCastTo(node: Node, type: DataTypeName): boolean {
  return node.isOnnx && node.opType === 'Cast' && node.intAttribute('to', 0) === DataType[type];
}

export function isOperand({ node, input }: Use): boolean {
  const positions = OPERANDS.get(node.opType);
  return positions === null || (positions ?? []).includes(input);
}

/** A graph with its types, and with Casts from FP32 to FP32 looked through. */
export class Surroundings {
  readonly graph: Graph;
  readonly index: GraphIndex;
  readonly types: ReadonlyMap<string, DataTypeName>;
  /** Values that the outside or a subgraph reads. */
  readonly exposed: ReadonlySet<string>;

  constructor(graph: Graph) {
    this.graph = graph;
    this.index = indexGraph(graph);
    this.types = valueTypes(graph);
    this.exposed = new Set([
      ...graph.outputs.map(({ name }) => name),
      ...graph.nodes.flatMap((node) => (subgraphs(node).length > 0 ? [...valuesRead(node)] : [])),
    ]);
  }

  /** Whether a node makes FP32 of what is FP32. */
  isIdle(node: Node): boolean {
    return (
      node.isOnnx &&
      (node.opType === 'Cast' || node.opType === 'CastLike') &&
      this.types.get(node.inputs[0] ?? '') === 'float32' &&
      this.types.get(node.outputs[0] ?? '') === 'float32'
    );
  }

  /** The value that idle Casts made this of. */
  root(name: string): string {
    const node = this.index.producers.get(name);
    return node && this.isIdle(node) ? this.root(node.inputs[0] as string) : name;
  }

  /** Who reads a value, directly or through idle Casts. */
  uses(name: string): Use[] {
    return (this.index.consumers.get(name) ?? []).flatMap((use) =>
      use.input === 0 && this.isIdle(use.node) ? this.uses(use.node.outputs[0] as string) : [use],
    );
  }

  /** A float32 constant that no caller can replace. */
  constant(name: string): Tensor | undefined {
    const tensor = constantTensor(name, this.graph, this.index);
    const given = tensor && this.graph.inputs.some((input) => input.name === name);
    return tensor?.dtype === 'float32' && !given ? tensor : undefined;
  }

  /** The constant of which a float32 value is, directly or through Casts. */
  stored(name: string): Tensor | undefined {
    const root = this.root(name);
    const producer = this.index.producers.get(root);
    const isCast = producer?.isOnnx && producer.opType === 'Cast';
    return isCast ? constantTensor(producer.inputs[0] ?? '', this.graph, this.index) : this.constant(root);
  }
}

/** Which nodes compute in FP16. */
export class Region {
  readonly nodes = new Set<Node>();
  readonly overflow: string[];
  readonly products: number;
  /** Products that are FP16 already. */
  readonly #seeds = new Set<Node>();
  readonly #around: Surroundings;

  constructor(graph: Graph, { linears, attention, ranges }: ComputeFloat16Options) {
    const around = new Surroundings(graph);
    this.#around = around;
    const known = new Map(linears.map((linear) => [linear.node, linear]));
    const scores = attention ? attentionProducts(around) : new Set<Node>();
    const products = graph.nodes.filter((node) => isWhole(node) && (known.has(node) || scores.has(node)));
    const units: Node[][] = [];
    for (const product of products) {
      const linear = known.get(product);
      const seed = (linear && this.#widened(linear)) ?? product;
      const biases = linear ? this.#biases(seed) : [];
      if (seed !== product || this.#computes(product, 'float16')) this.#seeds.add(seed);
      if (this.#seeds.has(seed)) units.push(biases);
      else if (this.#computes(product, 'float32') && !isDequantized(product, around)) units.push([product, ...biases]);
    }
    const limits = new Limits(around, ranges, units.flat());
    const overflow = new Set<string>();
    for (const unit of units) {
      const large = unit.flatMap((node) => [...operands(node), ...node.outputs]).filter((name) => limits.exceeds(name));
      for (const name of large) overflow.add(name);
      if (large.length > 0) continue;
      for (const node of unit) this.nodes.add(node);
    }
    this.products = products.filter((node) => this.nodes.has(node)).length;
    this.overflow = [...overflow];
    this.#addBetween(limits);
    this.#addBeforeConstants();
  }

  /** The node that makes a linear's result in FP16, which a Cast then makes FP32 of: the product itself, or what scales the sums of integers. */
  #widened({ output }: Linear): Node | undefined {
    const { index, types } = this.#around;
    const cast = index.producers.get(output);
    const half = cast && isCastTo(cast, 'float32') ? cast.inputs[0] : undefined;
    return half !== undefined && types.get(half) === 'float16' ? index.producers.get(half) : undefined;
  }

  #computes(node: Node, wanted: DataTypeName): boolean {
    const types = [...operands(node), node.outputs[0] ?? ''].flatMap((name) => this.#around.types.get(name) ?? []);
    return OPERANDS.has(node.opType) && types.length > 0 && types.every((type) => type === wanted);
  }

  /** The Add of a constant vector behind a product. */
  #biases(product: Node): Node[] {
    const { index } = this.#around;
    const output = product.outputs[0] as string;
    const widened = (index.consumers.get(output) ?? []).filter((use) => isCastTo(use.node, 'float32'));
    const names = [output, ...widened.map((use) => use.node.outputs[0] as string)];
    return names
      .flatMap((name) => this.#around.uses(name))
      .flatMap(({ node, input }) => {
        const rank = this.#around.stored(node.inputs[1 - input] ?? '')?.dims.length;
        const isBias = node.isOnnx && node.opType === 'Add' && isWhole(node) && rank !== undefined && rank <= 1;
        return isBias && this.#computes(node, 'float32') ? [node] : [];
      });
  }

  /** Adds what takes values from FP16 nodes, and constants, to FP16 nodes. */
  #addBetween(limits: Limits): void {
    const { index, graph } = this.#around;
    const fed = new Set<Node>();
    for (const node of graph.nodes) {
      if (!node.isOnnx || !isWhole(node) || this.nodes.has(node)) continue;
      if (!MOVING.has(node.opType) && node.opType !== 'Gelu') continue;
      const sources = operands(node).map((name) => this.#around.root(name));
      const isFed = (name: string): boolean => {
        const producer = index.producers.get(name);
        if (producer && isCastTo(producer, 'float32')) {
          const seed = index.producers.get(producer.inputs[0] ?? '');
          return seed !== undefined && this.#seeds.has(seed);
        }
        return producer !== undefined && (this.nodes.has(producer) || fed.has(producer));
      };
      if (!sources.some(isFed)) continue;
      const isConstant = (name: string): boolean => {
        const tensor = this.#around.constant(name);
        return tensor !== undefined && fitsFloat16(tensor);
      };
      if (!sources.every((name) => isFed(name) || isConstant(name))) continue;
      if (![...operands(node), ...node.outputs].some((name) => limits.exceeds(name))) fed.add(node);
    }
    for (const node of [...fed].reverse()) {
      const uses = node.outputs.flatMap((output) => this.#around.uses(output));
      const isWanted = (use: Use): boolean =>
        (this.nodes.has(use.node) && isOperand(use)) || isCastTo(use.node, 'float16');
      if (uses.some(isWanted)) this.nodes.add(node);
    }
  }

  /** Adds what moves a constant for FP16 nodes alone: the Transpose between a weight and its product. */
  #addBeforeConstants(): void {
    const { graph, index, exposed } = this.#around;
    const isMoved = (name: string): boolean => {
      const root = this.#around.root(name);
      if (this.#around.constant(root)) return true;
      const producer = index.producers.get(root);
      return producer?.isOnnx === true && MOVING.has(producer.opType) && operands(producer).every(isMoved);
    };
    for (const node of graph.nodes.toReversed()) {
      if (!node.isOnnx || !MOVING.has(node.opType) || !isWhole(node) || this.nodes.has(node)) continue;
      const uses = node.outputs.flatMap((output) => this.#around.uses(output));
      const only = uses.length > 0 && uses.every((use) => this.nodes.has(use.node) && isOperand(use));
      const isExposed = node.outputs.some((output) => exposed.has(output));
      if (only && !isExposed && operands(node).every(isMoved)) this.nodes.add(node);
    }
  }
}

function isDequantized(node: Node, { index }: Surroundings): boolean {
  return node.inputs.some((name) => index.producers.get(name)?.opType === 'DequantizeLinear');
}

/** The products of two activations before and after every softmax. */
function attentionProducts(around: Surroundings): Set<Node> {
  const hasConstant = (node: Node): boolean => operands(node).some((name) => around.constant(name) !== undefined);
  const composed = findAttentions(around.graph, around.index, hasConstant).filter(
    ({ softmax }) => softmax?.opType === 'Softmax',
  );
  const products = composed.flatMap(({ node, scores }) => (scores ? [scores, node] : []));
  return new Set(products.filter(({ operator }) => operator === 'MatMul'));
}

/** Values that FP16 cannot hold. */
class Limits {
  readonly #large = new Set<string>();

  /** @param candidates nodes whose constants matter */
  constructor(around: Surroundings, ranges: ReadonlyMap<string, number>, candidates: readonly Node[]) {
    const { graph, index } = around;
    for (const [name, range] of ranges) {
      // A constant grows no larger than it was seen.
      if (around.constant(name) ? !(range <= HALF_MAX) : exceedsFloat16(range)) this.#large.add(name);
    }
    const queue = candidates.flatMap(operands);
    const seen = new Set(queue);
    for (const name of queue) {
      const tensor = around.constant(name);
      if (tensor && !fitsFloat16(tensor)) this.#large.add(name);
      const producer = index.producers.get(name);
      if (!producer || !(MOVING.has(producer.opType) || around.isIdle(producer))) continue;
      const sources = around.isIdle(producer) ? producer.inputs.slice(0, 1) : operands(producer);
      for (const source of sources) {
        if (seen.has(source)) continue;
        seen.add(source);
        queue.push(source);
      }
    }
    // What is moved stays as large, and GELU makes nothing larger.
    const carried = graph.nodes.flatMap((node) => {
      if (around.isIdle(node)) return [{ from: node.inputs.slice(0, 1), to: node.outputs }];
      if (!node.isOnnx || !(MOVING.has(node.opType) || node.opType === 'Gelu')) return [];
      return [{ from: operands(node), to: node.outputs }];
    });
    const carry = (from: readonly string[], to: readonly string[]): void => {
      if (!from.some((name) => this.#large.has(name))) return;
      for (const name of to) if (!ranges.has(name) && name !== '') this.#large.add(name);
    };
    for (const { from, to } of carried.toReversed()) carry(to, from);
    for (const { from, to } of carried) carry(from, to);
  }

  exceeds(name: string): boolean {
    return this.#large.has(name);
  }
}

/** From here on a float32 becomes infinite in FP16. */
const INFINITE_FROM = 65520;

function fitsFloat16({ data }: Tensor): boolean {
  if (data.kind !== 'bytes') return true;
  const { buffer, byteOffset, byteLength } = aligned(data.bytes, 4);
  return new Float32Array(buffer, byteOffset, byteLength / 4).every((value) => Math.abs(value) < INFINITE_FROM);
}
