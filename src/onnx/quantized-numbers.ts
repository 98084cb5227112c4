import { constantTensor } from '../analyze/constants.js';
import { valueTypes } from '../analyze/value-types.js';
import { DataType, type DataTypeName } from '../ir/dtype.js';
import type { Graph, Model, Node } from '../ir/graph.js';
import { sameDims, type Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import { float32ToHalf, halfToFloat32 } from '../numerics/half.js';
import { fitsHalf } from '../numerics/int8.js';
import { decodeFloats } from './convert/tile.js';

/** What is wrong with a scale, a zero point or the codes of a quantized graph. */
export interface NumberDefect {
  readonly tensor: string;
  /** Continues the sentence that begins with what the tensor is. */
  readonly why: string;
}

/** A quantized weight of which some channels are odd. */
export interface WeightNote {
  readonly tensor: string;
  readonly channels: number;
  /** Channels of which all codes are 0. */
  readonly zero: number;
  /** Channels of which a single code is not: one weight is far larger than all others. */
  readonly single: number;
}

export interface QuantizedNumbers {
  readonly defects: readonly NumberDefect[];
  /** Names of scales among the defects. */
  readonly brokenScales: ReadonlySet<string>;
  readonly weights: readonly StoredWeight[];
}

/** Constant codes with one scale for each channel. */
export interface StoredWeight {
  readonly codes: Tensor;
  readonly axis: number;
  readonly scales: Float32Array;
}

/** What a graph's tensors are read with. */
type Read = (tensor: Tensor) => Promise<Uint8Array>;

/** Smallest scales that kernels need not take for 0. FP16 has them down to its subnormal numbers: GPUs that compute in FP16 compute with those. */
const LEAST_SCALE: Readonly<Record<string, number>> = { float32: 2 ** -126, bfloat16: 2 ** -126, float16: 2 ** -24 };

/** Types of codes that QuantizeLinear and DequantizeLinear have; int32 is that of biases. */
const CODES: ReadonlySet<DataTypeName> = new Set([
  ...(['int8', 'uint8', 'int16', 'uint16', 'int32', 'int4', 'uint4', 'float4e2m1'] as const),
  ...(['float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz'] as const),
]);

/** Types of codes that wanq writes. */
const WRITTEN_CODES: ReadonlySet<DataTypeName> = new Set(['int8', 'uint8']);

/** Operators with scales and zero points among their inputs: `[codes, scale, zero point]` each; codes and what is quantized have the first. */
const PARAMETERS: ReadonlyMap<string, readonly (readonly [values: number, scale: number, zeroPoint: number])[]> =
  new Map([
    ['QuantizeLinear', [[0, 1, 2]]],
    ['DequantizeLinear', [[0, 1, 2]]],
    ...['QLinearMatMul', 'QLinearConv'].map((opType): [string, [number, number, number][]] => [
      opType,
      [
        [0, 1, 2],
        [3, 4, 5],
        [-1, 6, 7],
      ],
    ]),
  ]);

/** Products of codes, with the codes and the zero point of each operand. */
const INTEGER_PRODUCTS = new Set(['MatMulInteger', 'ConvInteger']);

/**
 * Looks at all constant scales, zero points and codes of the outermost graph, wherever they stand: in initializers, in Constant nodes, behind Casts
 * and in products of constants. What nodes compute of activations is not looked at. Reads no codes.
 *
 * @param own whether wanq wrote the model: codes are INT8 or UINT8 then, and symmetric where they are INT8
 */
export async function quantizedNumbers(model: Model, read: Read, { own = false } = {}): Promise<QuantizedNumbers> {
  const checker = new Checker(model, read, own);
  await checker.run();
  const { defects, brokenScales, weights } = checker;
  return { defects, brokenScales, weights: [...weights.values()] };
}

class Checker {
  readonly defects: NumberDefect[] = [];
  readonly brokenScales = new Set<string>();
  /** By the name of the codes. */
  readonly weights = new Map<string, StoredWeight>();
  readonly #graph: Graph;
  readonly #index: GraphIndex;
  readonly #types: ReadonlyMap<string, DataTypeName>;
  readonly #constants: Constants;
  readonly #own: boolean;
  readonly #checked = new Set<string>();

  constructor({ graph }: Model, read: Read, own: boolean) {
    this.#graph = graph;
    this.#index = indexGraph(graph);
    this.#types = valueTypes(graph);
    this.#constants = new Constants(graph, this.#index, read);
    this.#own = own;
  }

  async run(): Promise<void> {
    for (const node of this.#graph.nodes) {
      if (!node.isOnnx) continue;
      for (const places of PARAMETERS.get(node.opType) ?? []) await this.#parameters(node, places);
      if (INTEGER_PRODUCTS.has(node.opType)) await this.#integerProduct(node);
      if (node.opType === 'Mul') await this.#lookup(node);
    }
  }

  async #parameters(node: Node, [values, scaleAt, zeroAt]: readonly [number, number, number]): Promise<void> {
    const [codes = '', scale = '', zero = ''] = [values, scaleAt, zeroAt].map((at) => node.inputs[at] ?? '');
    const quantizes = node.opType === 'QuantizeLinear';
    const type = this.#types.get(quantizes ? (node.outputs[0] ?? '') : codes);
    const known = await this.#scale(scale);
    if (!quantizes && values >= 0) this.#codes(codes, type);
    const tensor = this.#constants.tensor(codes);
    const blocks = node.intAttribute('block_size', 0) !== 0;
    if (known && !blocks) {
      this.#shape(node, scale, known, tensor);
      if (tensor && known.dtype === 'float16' && !known.values.every((value) => fitsHalf(value))) {
        this.#fail(scale, 'makes values past the end of FP16', true);
      }
    }
    await this.#zeroPoint(zero, values < 0 ? undefined : type, blocks ? undefined : known);
  }

  #codes(name: string, type: DataTypeName | undefined): void {
    if (type === undefined || (this.#own ? WRITTEN_CODES : CODES).has(type)) return;
    this.#fail(name, `holds codes of ${type}`);
  }

  /** One scale, or one for each index of an axis that there is. */
  #shape(node: Node, name: string, { dims, values }: Values, codes: Tensor | undefined): void {
    if (dims.length > 1) this.#fail(name, `is a scale of ${dims.length} axes`);
    if (dims.length > 1 || values.length === 1 || !codes || node.opType.startsWith('QLinear')) return;
    const rank = codes.dims.length;
    const given = node.intAttribute('axis', 1);
    const axis = given < 0 ? given + rank : given;
    const channels = codes.dims[axis];
    if (axis < 0 || channels === undefined) this.#fail(name, `is for axis ${given} of ${rank} axes`);
    else if (channels !== values.length) this.#fail(name, `has ${values.length} scales for ${channels} channels`);
    else this.#weight(codes, axis, values);
  }

  #weight(codes: Tensor, axis: number, scales: Float32Array): void {
    this.weights.set(codes.name, { codes, axis, scales });
  }

  async #scale(name: string): Promise<Values | undefined> {
    const values = await this.#constants.values(name);
    if (!values || this.#checked.has(name)) return values;
    this.#checked.add(name);
    const least = LEAST_SCALE[values.dtype];
    if (least === undefined) this.#fail(name, `is a scale of ${values.dtype}`, true);
    // What factors come to together may be below all numbers, since each of them is not.
    else if (values.factors) {
      for (const factor of values.factors) await this.#scale(factor);
      if (!values.values.every(Number.isFinite)) this.#fail(name, 'is a product of scales that is not finite', true);
    } else if (!values.values.every((scale) => scale > 0 && scale < Number.POSITIVE_INFINITY)) {
      this.#fail(name, 'is not positive and finite', true);
    } else if (!values.values.every((scale) => scale >= least)) {
      this.#fail(name, 'is below the smallest normal number: some kernels take it for 0', true);
    }
    return values;
  }

  async #zeroPoint(name: string, codes: DataTypeName | undefined, scale: Values | undefined): Promise<void> {
    const tensor = this.#constants.tensor(name);
    if (name === '' || !tensor) return;
    if (codes !== undefined && tensor.dtype !== codes) {
      return this.#fail(name, `is a zero point of ${tensor.dtype} for codes of ${codes}`);
    }
    const single = (dims: readonly number[]): boolean => dims.every((dim) => dim === 1);
    if (scale && !sameDims(tensor.dims, scale.dims) && !(single(tensor.dims) && single(scale.dims))) {
      return this.#fail(name, `is ${shapeText(tensor.dims)} and its scale ${shapeText(scale.dims)}`);
    }
    const signed = tensor.dtype === 'int32' || (this.#own && tensor.dtype === 'int8');
    if (signed && !(await this.#constants.isZero(tensor))) this.#fail(name, `is not 0 for ${tensor.dtype}`);
  }

  /** Zero points of the operands, and the scales that the sums are multiplied with. */
  async #integerProduct(node: Node): Promise<void> {
    for (const [at, zeroAt] of [
      [0, 2],
      [1, 3],
    ] as const) {
      const codes = node.inputs[at] ?? '';
      const type = this.#types.get(codes);
      this.#codes(codes, type);
      await this.#zeroPoint(node.inputs[zeroAt] ?? '', type, undefined);
    }
    const codes = this.#constants.tensor(node.inputs[1] ?? '');
    const axis = node.opType === 'ConvInteger' ? 0 : (codes?.dims.length ?? 0) - 1;
    const channels = codes?.dims[axis];
    let value = node.outputs[0] as string;
    // One Mul by a token's scale may stand before that by the channels'.
    for (let muls = 0; muls < 2; ) {
      const [use, ...more] = this.#index.consumers.get(value) ?? [];
      if (!use || more.length > 0 || !(use.node.opType === 'Cast' || use.node.opType === 'Mul')) return;
      value = use.node.outputs[0] as string;
      if (use.node.opType === 'Cast') continue;
      muls++;
      const name = use.node.inputs[1 - use.input] ?? '';
      const scale = await this.#scale(name);
      if (!scale) continue;
      if (!codes || scale.values.length === 1) return;
      if (scale.values.length !== channels) {
        this.#fail(name, `has ${scale.values.length} scales for ${channels} channels`);
        return;
      }
      this.#weight(codes, axis, scale.values);
      return;
    }
  }

  /** Rows of codes that are looked up, times their scales. */
  async #lookup({ inputs }: Node): Promise<void> {
    const makers = inputs.map((name) => this.#index.producers.get(name));
    const lookedUp = (node: Node | undefined): string => (node?.opType === 'Gather' ? (node.inputs[0] ?? '') : '');
    for (const [at, cast] of makers.entries()) {
      if (cast?.opType !== 'Cast') continue;
      const codes = this.#constants.tensor(lookedUp(this.#index.producers.get(cast.inputs[0] ?? '')));
      const name = lookedUp(makers[1 - at]);
      if (!codes || !WRITTEN_CODES.has(codes.dtype) || name === '') continue;
      const scale = await this.#scale(name);
      const [rows] = codes.dims;
      if (scale?.values.length === rows) this.#weight(codes, 0, scale.values);
      else if (scale) this.#fail(name, `has ${scale.values.length} scales for ${rows} rows`);
    }
  }

  #fail(tensor: string, why: string, scale = false): void {
    if (scale) this.brokenScales.add(tensor);
    if (!this.defects.some((defect) => defect.tensor === tensor && defect.why === why))
      this.defects.push({ tensor, why });
  }
}

/** The numbers of a constant. */
interface Values {
  readonly values: Float32Array;
  readonly dims: readonly number[];
  readonly dtype: DataTypeName;
  /** Of a product of constants: their names. */
  readonly factors?: readonly string[];
}

const FLOATS: ReadonlySet<DataTypeName> = new Set(['float32', 'float16', 'bfloat16', 'float64']);

/** Nodes between a constant and who reads it; more are nobody's. */
const MAX_DEPTH = 8;

/** Constants of a graph, and what Casts and products make of them. */
class Constants {
  readonly #graph: Graph;
  readonly #index: GraphIndex;
  readonly #read: Read;

  constructor(graph: Graph, index: GraphIndex, read: Read) {
    this.#graph = graph;
    this.#index = index;
    this.#read = read;
  }

  tensor(name: string): Tensor | undefined {
    // What is an input too, a caller may replace.
    if (name === '' || this.#graph.inputs.some((input) => input.name === name)) return undefined;
    return constantTensor(name, this.#graph, this.#index);
  }

  async isZero(tensor: Tensor): Promise<boolean> {
    return (await this.#read(tensor)).every((byte) => byte === 0);
  }

  async values(name: string, depth = 0): Promise<Values | undefined> {
    const tensor = this.tensor(name);
    if (tensor) return this.#stored(tensor);
    const node = this.#index.producers.get(name);
    if (!node?.isOnnx || depth === MAX_DEPTH) return undefined;
    const [first = '', second = ''] = node.inputs;
    if (node.opType === 'Identity') return this.values(first, depth + 1);
    if (node.opType === 'Cast') {
      const from = await this.values(first, depth + 1);
      const to = node.intAttribute('to', 0);
      if (!from || (to !== DataType.float32 && to !== DataType.float16)) return undefined;
      return to === DataType.float32
        ? { ...from, dtype: 'float32' }
        : { ...from, dtype: 'float16', values: halfToFloat32(float32ToHalf(from.values)) };
    }
    if (node.opType !== 'Mul') return undefined;
    const [a, b] = [await this.values(first, depth + 1), await this.values(second, depth + 1)];
    if (!a || !b) return undefined;
    const [long, short] = a.values.length < b.values.length ? [b, a] : [a, b];
    if (short.values.length !== 1 && short.values.length !== long.values.length) return undefined;
    const values = long.values.map((x, i) => x * (short.values[short.values.length === 1 ? 0 : i] as number));
    return { values, dims: long.dims, dtype: long.dtype, factors: [first, second] };
  }

  async #stored(tensor: Tensor): Promise<Values | undefined> {
    const { dtype, dims, elements } = tensor;
    if (!FLOATS.has(dtype)) return { values: new Float32Array(), dims, dtype };
    // A copy: the decoder uses its memory again.
    return { values: decodeFloats(dtype, await this.#read(tensor), elements).slice(), dims, dtype };
  }
}

function shapeText(dims: readonly number[]): string {
  return dims.length === 0 ? 'a scalar' : `[${dims.join(', ')}]`;
}

/** How much larger than the median of a weight's scales one is that a single large weight makes. */
const ODD_RATIO = 1000;

/**
 * Finds weights with channels that are all zeros, or that one weight makes the range of. Codes are read only of weights whose scales give reason
 * to.
 */
export async function oddWeights(weights: readonly StoredWeight[], read: Read): Promise<WeightNote[]> {
  const notes: WeightNote[] = [];
  for (const { codes, axis, scales } of weights) {
    if (codes.dtype !== 'int8' || !isOdd(scales)) continue;
    const note = countCodes(codes, axis, await read(codes));
    if (note.zero + note.single > 0) notes.push(note);
  }
  return notes;
}

function isOdd(scales: Float32Array): boolean {
  const median = scales.toSorted()[scales.length >> 1] as number;
  return scales.some((scale) => scale <= 2 ** -14 || scale > ODD_RATIO * median);
}

function countCodes({ name: tensor, dims }: Tensor, axis: number, codes: Uint8Array): WeightNote {
  const channels = dims[axis] as number;
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const used = new Float64Array(channels);
  for (let i = 0; i < codes.length; i++) {
    const channel = Math.floor(i / inner) % channels;
    if (codes[i] !== 0) used[channel] = (used[channel] as number) + 1;
  }
  const single = codes.length / channels > 1 ? used.filter((count) => count === 1).length : 0;
  return { tensor, channels, zero: used.filter((count) => count === 0).length, single };
}
