import { constantTensor } from '../analyze/constants.js';
import { GemmFusion } from '../analyze/gemm-fusion.js';
import { type Role, roleOf } from '../analyze/roles.js';
import { valueTypes } from '../analyze/value-types.js';
import type { DataTypeName } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph, subgraphs, valuesRead } from '../ir/traverse.js';
import { QUANTIZED } from '../passes/quantize-linears.js';

/** A scale or zero point. */
export interface Parameter {
  readonly name: string;
  readonly dtype: DataTypeName | undefined;
  /** Absent where a node computes it or a caller gives it. */
  readonly tensor: Tensor | undefined;
}

/** An operand of a product that comes of codes. */
export interface Dequantized {
  readonly node: Node;
  /** Operators between the DequantizeLinear and the product, in the order of the graph. */
  readonly between: readonly Node[];
  /** Type of the codes. */
  readonly codes: DataTypeName | undefined;
  /** Whether the codes are a constant. */
  readonly stored: Tensor | undefined;
  /** The QuantizeLinear that makes them. */
  readonly quantizer: Node | undefined;
  readonly scale: Parameter;
  readonly zeroPoint: Parameter | undefined;
}

/** A product of which at least the weight is quantized. */
export interface QuantizedProduct {
  readonly node: Node;
  readonly role: Role;
  /**
   * - `qdq`: both operands are dequantized.
   * - `weights`: the weight is.
   * - `activation`: the activation is.
   * - `integer`: an operator that multiplies codes itself.
   */
  readonly form: 'qdq' | 'weights' | 'activation' | 'integer';
  readonly activation: Dequantized | undefined;
  readonly weight: Dequantized | undefined;
  /** Type of its result. */
  readonly type: DataTypeName | undefined;
}

/** A pair whose values no product reads. */
export interface StrayPair {
  readonly node: Node;
  /** Operators that read what is dequantized. */
  readonly readers: readonly string[];
}

/** What was read of the constant scales and zero points of a graph. */
export interface QuantizationNumbers {
  /** Zero point to whether all its values are 0. */
  readonly zero: ReadonlyMap<string, boolean>;
  /** Scales that are not positive and finite throughout. */
  readonly broken: ReadonlySet<string>;
}

/** A graph as the rules look at it. */
export class CheckedGraph {
  readonly graph: Graph;
  readonly opset: number;
  readonly index: GraphIndex;
  readonly types: ReadonlyMap<string, DataTypeName>;
  readonly gemms: GemmFusion;
  readonly #numbers: QuantizationNumbers;
  readonly #exposed: ReadonlySet<string>;

  constructor(graph: Graph, opset: number, numbers: QuantizationNumbers) {
    this.graph = graph;
    this.opset = opset;
    this.#numbers = numbers;
    this.index = indexGraph(graph);
    this.types = valueTypes(graph);
    this.gemms = new GemmFusion(graph, this.index);
    this.#exposed = new Set([
      ...graph.outputs.map(({ name }) => name),
      ...graph.nodes.flatMap((node) => (subgraphs(node).length > 0 ? [...valuesRead(node)] : [])),
    ]);
  }

  /** Who reads a value. */
  readers(value: string): readonly Node[] {
    return (this.index.consumers.get(value) ?? []).map(({ node }) => node);
  }

  /** Whether the outside or a subgraph reads a value. */
  isExposed(value: string): boolean {
    return this.#exposed.has(value);
  }

  constant(name: string): Tensor | undefined {
    const tensor = constantTensor(name, this.graph, this.index);
    // What is an input too, a caller may replace.
    return tensor && this.graph.inputs.some((input) => input.name === name) ? undefined : tensor;
  }

  /** Whether all values of a zero point are 0, as an absent one is; undefined where it is no constant, or its bytes are not at hand. */
  isZero(zeroPoint: Parameter | undefined): boolean | undefined {
    return zeroPoint ? zeroPoint.tensor && this.#numbers.zero.get(zeroPoint.name) : true;
  }

  /** Whether a scale is known to be 0, negative, infinite or NaN. */
  isBroken({ name }: Parameter): boolean {
    return this.#numbers.broken.has(name);
  }

  parameter(name: string | undefined): Parameter | undefined {
    if (!name) return undefined;
    return { name, dtype: this.types.get(name), tensor: this.constant(name) };
  }
}

const FLOAT_PRODUCTS = new Set(['MatMul', 'Gemm', 'com.microsoft.FusedMatMul', 'Conv']);

/** Operators that multiply codes themselves, with the places of activation and weight among their inputs. */
const INTEGER_PRODUCTS: ReadonlyMap<string, readonly [activation: number, weight: number]> = new Map([
  ['MatMulInteger', [0, 1]],
  ['ConvInteger', [0, 1]],
  ['QLinearMatMul', [0, 3]],
  ['QLinearConv', [0, 3]],
  ['com.microsoft.MatMulIntegerToFloat', [0, 1]],
  ['com.microsoft.DynamicQuantizeMatMul', [0, 1]],
  ['com.microsoft.QGemm', [0, 3]],
]);

/** Finds the quantized products of a graph, in node order; those inside branches and bodies are not looked at. */
export function findQuantizedProducts(checked: CheckedGraph): QuantizedProduct[] {
  return checked.graph.nodes.flatMap((node): QuantizedProduct[] => {
    const { operator, inputs, outputs } = node;
    const type = checked.types.get(outputs[0] ?? '');
    const places = INTEGER_PRODUCTS.get(operator);
    if (places) {
      const role = roleFor(node, inputs[places[1]] ?? '');
      return [{ node, role, form: 'integer', activation: undefined, weight: undefined, type }];
    }
    if (!FLOAT_PRODUCTS.has(operator)) return [];
    const [activation, weight] = [inputs[0], inputs[1]].map((name) => dequantized(name ?? '', checked));
    // Of two activations, as attention multiplies them, one that is quantized alone was not meant to be.
    if (!weight && !(activation && checked.constant(inputs[1] ?? ''))) return [];
    const form = activation && weight ? 'qdq' : weight ? 'weights' : 'activation';
    const stored = weight?.stored?.name ?? inputs[1] ?? '';
    return [{ node, role: roleFor(node, stored), form, activation, weight, type }];
  });
}

/** Finds QuantizeLinears that belong to no product of `products`: that none reads from, and that do not quantize the result of one. */
export function findStrayPairs(checked: CheckedGraph, products: readonly QuantizedProduct[]): StrayPair[] {
  const { graph, index } = checked;
  const known = new Set(products.flatMap(({ activation, weight }) => [activation?.quantizer, weight?.quantizer]));
  const results = new Set(products.flatMap(({ node }) => node.outputs));
  for (const { node, form } of products) {
    if (form === 'integer') for (const name of node.inputs) known.add(makerOfCodes(name, index));
  }
  return graph.nodes.flatMap((node): StrayPair[] => {
    if (!node.isOnnx || node.opType !== 'QuantizeLinear' || known.has(node)) return [];
    if (results.has(node.inputs[0] ?? '')) return [];
    const dequantizes = checked.readers(node.outputs[0] ?? '').filter(({ opType }) => opType === 'DequantizeLinear');
    const readers = dequantizes.flatMap(({ outputs }) => checked.readers(outputs[0] ?? ''));
    return [{ node, readers: [...new Set(readers.map(({ operator }) => operator))] }];
  });
}

function makerOfCodes(name: string, index: GraphIndex): Node | undefined {
  const node = index.producers.get(name);
  return node?.opType === 'Reshape' ? makerOfCodes(node.inputs[0] ?? '', index) : node;
}

/** Operators that leave the values of what they read as they are. */
const MOVING = new Set(['Identity', 'Cast', 'Transpose', 'Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Slice']);

/** Operators that may stand between a DequantizeLinear and what was meant to read it. */
const BETWEEN = new Set([...MOVING, 'Mul', 'Div', 'Add', 'Sub']);

/** Further away, a DequantizeLinear is somebody else's. */
const MAX_BETWEEN = 6;

function dequantized(value: string, checked: CheckedGraph): Dequantized | undefined {
  const between: Node[] = [];
  let node = checked.index.producers.get(value);
  while (node && !(node.isOnnx && node.opType === 'DequantizeLinear')) {
    if (!node.isOnnx || !BETWEEN.has(node.opType) || between.length === MAX_BETWEEN) return undefined;
    // Of arithmetic, only that with a constant leaves a weight or an activation what it was.
    const data = node.inputs.filter((name) => name !== '' && !checked.constant(name));
    if (data.length !== 1) return undefined;
    between.unshift(node);
    node = checked.index.producers.get(data[0] as string);
  }
  if (!node) return undefined;
  const [codes = '', scale = '', zeroPoint] = node.inputs;
  const maker = checked.index.producers.get(codes);
  const step = checked.parameter(scale);
  // One without a scale stands for nothing; what checks scales tells of it.
  if (!step) return undefined;
  return {
    node,
    between,
    codes: checked.types.get(codes),
    stored: checked.constant(codes),
    quantizer: maker?.isOnnx && maker.opType === 'QuantizeLinear' ? maker : undefined,
    scale: step,
    zeroPoint: checked.parameter(zeroPoint),
  };
}

function roleFor(node: Node, weight: string): Role {
  return node.metadata.get(QUANTIZED) ?? roleOf(node, weight, []).role;
}
