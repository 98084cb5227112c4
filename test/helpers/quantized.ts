import { type Attribute, int, ints } from '../../src/ir/attribute.js';
import type { DataTypeName } from '../../src/ir/dtype.js';
import { type Dim, Graph, Model, Node, type Value } from '../../src/ir/graph.js';
import { asBytes, Tensor } from '../../src/ir/tensor.js';
import { float32ToHalf } from '../../src/numerics/half.js';

/** Features of the weight of a small quantized graph. */
export const IN = 64;
export const OUT = 32;

export function node(
  opType: string,
  inputs: string[],
  output: string,
  attributes: Attribute[] = [],
  domain = '',
): Node {
  return new Node({ opType, domain, name: output, inputs, outputs: [output], attributes });
}

export const half = (name: string, dims: readonly number[], values: readonly number[]): Tensor =>
  Tensor.fromBytes(name, 'float16', dims, asBytes(float32ToHalf(Float32Array.from(values))));

export const filled = (length: number, value: number): number[] => new Array<number>(length).fill(value);

/** Codes of a type that has one byte an element, or two. */
export function codes(name: string, dims: readonly number[], values: readonly number[], dtype: DataTypeName): Tensor {
  const bytes = dtype === 'uint16' ? Uint16Array.from(values) : Uint8Array.from(values, (value) => value & 0xff);
  return Tensor.fromBytes(name, dtype, dims, asBytes(bytes));
}

const weightCodes = Array.from({ length: IN * OUT }, (_, i) => ((i * 37) % 255) - 127);

/** Codes of the weight, in another shape or type. */
export const storedWeight = (dims: readonly number[] = [IN, OUT], dtype: 'int8' | 'uint8' = 'int8'): Tensor =>
  codes('wq', dims, dtype === 'int8' ? weightCodes : weightCodes.map((code) => code + 128), dtype);

/** Scales and zero points of `x` and of a weight `[IN, OUT]`, and the weight's codes; `others` take the place of those they are named as. */
export function parameters(
  { dtype = 'uint8', zeroPoint = 7 }: { dtype?: DataTypeName; zeroPoint?: number } = {},
  ...others: readonly (Tensor | { readonly without: string })[]
): Tensor[] {
  const usual = [
    Tensor.float32('xs', [], [0.05]),
    codes('xz', [], [zeroPoint], dtype),
    storedWeight(),
    Tensor.float32(
      'ws',
      [OUT],
      Array.from({ length: OUT }, (_, i) => 0.01 + 0.001 * i),
    ),
    codes('wz', [OUT], filled(OUT, 0), 'int8'),
  ];
  const named = new Map(usual.map((tensor) => [tensor.name, tensor]));
  for (const other of others) {
    if ('without' in other) named.delete(other.without);
    else named.set(other.name, other);
  }
  return [...named.values()];
}

export const SIGNED = { dtype: 'int8', zeroPoint: 0 } as const;

/** QuantizeLinear and DequantizeLinear of a value, to `<prefix>d`. */
export const pair = (value = 'x', prefix = '', attributes: Attribute[] = []): Node[] => [
  node('QuantizeLinear', [value, 'xs', 'xz'], `${prefix}q`, attributes),
  node('DequantizeLinear', [`${prefix}q`, 'xs', 'xz'], `${prefix}d`, attributes),
];

/** DequantizeLinear of the weight. */
export const weight = (output = 'wd', axis: number | null = 1): Node =>
  node('DequantizeLinear', ['wq', 'ws', 'wz'], output, axis === null ? [] : [int('axis', axis)]);

export const matmul = (activation = 'd', by = 'wd', output = 'y'): Node => node('MatMul', [activation, by], output);

export const transposed = (input: string, output: string): Node =>
  node('Transpose', [input], output, [ints('perm', [1, 0])]);

export interface Surroundings {
  readonly dims?: readonly Dim[];
  readonly dtype?: DataTypeName;
  readonly outputs?: readonly string[];
  readonly opset?: number;
  readonly inputs?: readonly Value[];
}

/** A graph of one input `x`. */
export function quantizedModel(
  nodes: Node[],
  initializers: readonly Tensor[],
  { dims = [1, 'tokens', IN], dtype = 'float32', outputs = ['y'], opset = 20, inputs = [] }: Surroundings = {},
): Model {
  return new Model({
    irVersion: 10,
    opsets: [
      { domain: '', version: opset },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: new Graph({
      name: 'test',
      nodes,
      initializers,
      inputs: [{ name: 'x', dtype, dims }, ...inputs],
      outputs: outputs.map((name) => ({ name, dtype, dims: null })),
    }),
  });
}

/** A model in memory, as one that is loaded. */
export function asLoaded(model: Model) {
  return {
    model,
    path: 'model.onnx',
    bytes: new Uint8Array(),
    read: async ({ data, name }: Tensor): Promise<Uint8Array> => {
      if (data.kind !== 'bytes') throw new Error(`${name} is not in memory`);
      return data.bytes;
    },
    readInto: () => Promise.reject(new Error('weights are not read')),
    dataSize: () => Promise.reject(new Error('there is no data file')),
    mount: () => Promise.reject(new Error('there is no data file')),
    isMounted: () => false,
    encoded: () => Promise.reject(new Error('nothing runs')),
    close: async () => {},
  };
}
