import fc from 'fast-check';
import { int, ints } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { type GraphIndex, indexGraph } from '../../../src/ir/traverse.js';
import { halfToFloat32 } from '../../../src/numerics/half.js';
import { graph, node } from './graphs.js';

/** A tensor as numpy has it. */
export interface Grid {
  readonly dims: readonly number[];
  readonly values: readonly number[];
}

export function gridOf({ name, dtype, dims, data }: Tensor): Grid {
  if (data.kind !== 'bytes') throw new Error(`${name} is not in memory`);
  const { buffer } = new Uint8Array(data.bytes);
  if (dtype === 'float16') return { dims, values: [...halfToFloat32(new Uint16Array(buffer))] };
  if (dtype === 'float32') return { dims, values: [...new Float32Array(buffer)] };
  if (dtype === 'float64') return { dims, values: [...new Float64Array(buffer)] };
  if (dtype === 'int32') return { dims, values: [...new Int32Array(buffer)] };
  if (dtype === 'int64') return { dims, values: Array.from(new BigInt64Array(buffer), Number) };
  throw new Error(`${name} is of ${dtype}`);
}

/** The matrix with its axes swapped. */
export function flipped({ dims, values }: Grid): Grid {
  const [rows, columns] = dims as [number, number];
  return {
    dims: [columns, rows],
    values: values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number),
  };
}

/** The numbers of an initializer or a Constant node. */
function constantOf(name: string, graph: Graph, index: GraphIndex): Grid | undefined {
  const initializer = graph.initializers.get(name);
  if (initializer) return gridOf(initializer);
  const made = index.producers.get(name);
  if (made?.opType !== 'Constant') return undefined;
  const [value] = made.attributes;
  switch (value?.type) {
    case 'tensor':
      return gridOf(value.value);
    case 'int':
    case 'float':
      return { dims: [], values: [Number(value.value)] };
    case 'ints':
    case 'floats':
      return { dims: [value.value.length], values: value.value.map(Number) };
    default:
      throw new Error(`${name} is no constant known here`);
  }
}

/** What a value is, computed operator by operator as ONNX defines them; nothing here looks at strides. */
export function evaluate(name: string, graph: Graph, index: GraphIndex = indexGraph(graph)): Grid {
  const constant = constantOf(name, graph, index);
  if (constant) return constant;
  const made = index.producers.get(name) as Node;
  const { opType, inputs } = made;
  const input = (at: number): Grid => evaluate(inputs[at] as string, graph, index);
  const list = (at: number, attribute: string): number[] | undefined => {
    const given = made.attribute(attribute);
    if (given?.type === 'ints') return given.value.map(Number);
    const values = constantOf(inputs[at] ?? '', graph, index)?.values;
    return values && [...values];
  };
  if (opType === 'Mul') return combined(input(0), input(1), (a, b) => a * b);
  if (opType === 'Div') return combined(input(0), input(1), (a, b) => a / b);
  const { dims, values } = input(0);
  const rank = dims.length;
  const counted = (axis: number, of = rank): number => (axis < 0 ? axis + of : axis);
  switch (opType) {
    case 'Identity':
    case 'Cast':
    case 'CastLike':
      return { dims, values };
    case 'Transpose':
      return permuted({ dims, values }, list(-1, 'perm') ?? dims.map((_, i) => rank - 1 - i));
    case 'Squeeze': {
      const gone = list(1, 'axes')?.map((axis) => counted(axis));
      return { dims: dims.filter((size, i) => (gone ? !gone.includes(i) : size !== 1)), values };
    }
    case 'Unsqueeze': {
      const axes = list(1, 'axes') ?? [];
      const made = [...dims];
      for (const axis of axes.map((each) => counted(each, rank + axes.length)).sort((a, b) => a - b))
        made.splice(axis, 0, 1);
      return { dims: made, values };
    }
    case 'Reshape': {
      const asked = (list(1, 'shape') ?? []).map((size, i) => (size === 0 ? (dims[i] as number) : size));
      const known = asked.reduce((product, size) => (size === -1 ? product : product * size), 1);
      return { dims: asked.map((size) => (size === -1 ? values.length / known : size)), values };
    }
    case 'Flatten': {
      const rows = dims.slice(0, counted(made.intAttribute('axis', 1))).reduce((a, b) => a * b, 1);
      return { dims: [rows, values.length / rows], values };
    }
    default:
      throw new Error(`${opType} is not known here`);
  }
}

function indicesOf(dims: readonly number[]): number[][] {
  return dims.reduce<number[][]>(
    (all, size) => all.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i])),
    [[]],
  );
}

function at({ dims, values }: Grid, index: readonly number[]): number {
  return values[dims.reduce((offset, size, i) => offset * size + (index[i] as number), 0)] as number;
}

function permuted(grid: Grid, perm: readonly number[]): Grid {
  const dims = perm.map((axis) => grid.dims[axis] as number);
  return {
    dims,
    values: indicesOf(dims).map((index) =>
      at(
        grid,
        grid.dims.map((_, axis) => index[perm.indexOf(axis)] as number),
      ),
    ),
  };
}

function combined(a: Grid, b: Grid, by: (a: number, b: number) => number): Grid {
  const rank = Math.max(a.dims.length, b.dims.length);
  const padded = ({ dims, values }: Grid): Grid => ({ dims: [...Array(rank - dims.length).fill(1), ...dims], values });
  const [left, right] = [padded(a), padded(b)];
  const dims = left.dims.map((size, i) => (size === 1 ? (right.dims[i] as number) : size));
  const read = (grid: Grid, index: readonly number[]): number =>
    at(
      grid,
      grid.dims.map((size, i) => (size === 1 ? 0 : (index[i] as number))),
    );
  return { dims, values: indicesOf(dims).map((index) => by(read(left, index), read(right, index))) };
}

/** Nodes that make `value` of the stored tensor `w`. */
export interface Chain {
  readonly nodes: Node[];
  readonly initializers: Tensor[];
  /** Name of the last value, and its dims. */
  readonly value: string;
  readonly dims: readonly number[];
}

/** One decision of a chain; what it comes to depends on the shape it meets. */
interface Draw {
  readonly kind: string;
  readonly pick: number;
  /** Which of two ways to say the same, for several questions. */
  readonly ways: readonly boolean[];
}

/**
 * Chains that weights come through. `regular`: axes are moved only where there are two, and what a Reshape takes apart the next nodes put
 * together again, so that the value is always the stored matrix or its transpose; otherwise anything ONNX allows.
 */
export function chains(kind: 'any' | 'regular'): fc.Arbitrary<Chain> {
  const kinds = [
    'Identity',
    'Cast',
    'CastLike',
    'Transpose',
    'Unsqueeze',
    'Squeeze',
    'Reshape',
    'Flatten',
    'Mul',
    'Div',
  ];
  const draw = fc.record({
    kind: fc.constantFrom(...kinds, 'Transpose', 'Mul'),
    pick: fc.nat(1000),
    ways: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
  });
  const shape = fc.record({ rows: fc.integer({ min: 1, max: 6 }), columns: fc.integer({ min: 1, max: 6 }) });
  return fc
    .record({ shape, split: draw, draws: fc.array(draw, { maxLength: 8 }) })
    .map(({ shape: { rows, columns }, split, draws }) => {
      const size = rows * columns;
      const dims = kind === 'any' ? shapeOf(size, split.pick) : [rows, columns];
      const builder = new ChainBuilder(dims);
      for (const each of draws) {
        if (kind === 'any') builder.add(each);
        else builder.addRegular(each);
      }
      if (builder.dims.length !== 2) builder.reshape(split.pick % 2 === 0 ? [rows, columns] : [size, 1], split.ways);
      return builder.done();
    });
}

/** One of the shapes with a number of elements. */
function shapeOf(elements: number, pick: number): number[] {
  const shapes = (left: number, axes: number): number[][] => {
    if (axes === 1) return [[left]];
    return Array.from({ length: left }, (_, i) => i + 1)
      .filter((size) => left % size === 0)
      .flatMap((size) => shapes(left / size, axes - 1).map((rest) => [size, ...rest]));
  };
  const all = [1, 2, 3, 4].flatMap((axes) => shapes(elements, axes));
  return all[pick % all.length] as number[];
}

/** One of the orders of a number of axes. */
function permutation(axes: number, pick: number): number[] {
  const left = Array.from({ length: axes }, (_, i) => i);
  let rest = pick;
  return Array.from({ length: axes }, () => {
    const at = rest % left.length;
    rest = Math.floor(rest / left.length);
    return left.splice(at, 1)[0] as number;
  });
}

class ChainBuilder {
  readonly #nodes: Node[] = [];
  readonly #initializers: Tensor[];
  #value = 'w';
  dims: readonly number[];

  constructor(dims: readonly number[]) {
    this.dims = dims;
    const size = dims.reduce((a, b) => a * b, 1);
    // Small integers of both signs, no two of one magnitude: exact in float16, and powers of two keep them so.
    const values = Array.from({ length: size }, (_, i) => (i + 1) * (i % 3 === 0 ? -1 : 1));
    this.#initializers = [Tensor.float32('w', dims, values)];
  }

  get size(): number {
    return this.dims.reduce((a, b) => a * b, 1);
  }

  done(): Chain {
    return { nodes: this.#nodes, initializers: this.#initializers, value: this.#value, dims: this.dims };
  }

  add({ kind, pick, ways }: Draw): void {
    const rank = this.dims.length;
    const signed = (axis: number, of: number): number => (ways[1] ? axis - of : axis);
    const units = this.dims.flatMap((size, i) => (size === 1 ? [i] : []));
    switch (kind) {
      case 'Transpose':
        this.transpose(permutation(rank, pick), ways);
        break;
      case 'Unsqueeze':
        this.#axes(kind, rank < 5 ? [signed(pick % (rank + 1), rank + 1)] : [], ways);
        break;
      case 'Squeeze':
        if (units.length === 0 || ways[2]) this.#push(kind);
        else this.#axes(kind, [signed(units[pick % units.length] as number, rank)], ways);
        break;
      case 'Reshape':
        this.reshape(shapeOf(this.size, pick), ways);
        break;
      case 'Flatten':
        if (rank > 0) this.#push(kind, [], [int('axis', signed(pick % rank, rank))]);
        break;
      case 'Mul':
      case 'Div':
        this.scale(kind, pick, ways);
        break;
      case 'Cast':
        this.#push(kind, [], [int('to', DataType.float32)]);
        break;
      case 'CastLike':
        this.#push(kind, [this.#constant(Tensor.float32(this.#name('like'), [], [0]), ways)]);
        break;
      default:
        this.#push('Identity');
    }
  }

  /** The same, but the matrix comes out whole. */
  addRegular(draw: Draw): void {
    const { kind, pick, ways } = draw;
    const [rows, columns] = this.dims as [number, number];
    switch (kind) {
      case 'Unsqueeze': {
        const axis = pick % 3;
        this.#axes('Unsqueeze', [axis], ways);
        if (ways[2]) this.scale('Mul', pick, ways);
        this.#axes('Squeeze', [axis - (ways[1] ? 3 : 0)], ways);
        break;
      }
      case 'Squeeze':
        this.#push('Squeeze');
        // A vector becomes the matrix of one row or one column that it was.
        if (this.dims.length < 2) this.reshape([rows, columns], ways);
        break;
      case 'Reshape':
        this.reshape(ways[0] ? [...shapeOf(rows, pick), columns] : [rows, ...shapeOf(columns, pick)], ways);
        this.reshape([rows, columns], ways.toReversed());
        break;
      case 'Flatten':
        this.#push('Flatten', [], ways[0] ? [] : [int('axis', ways[1] ? 1 : -1)]);
        break;
      default:
        this.add(draw);
    }
  }

  transpose(perm: readonly number[], ways: readonly boolean[]): void {
    const reversed = perm.every((axis, i) => axis === perm.length - 1 - i);
    this.#push('Transpose', [], reversed && ways[0] ? [] : [ints('perm', perm)]);
  }

  reshape(to: readonly number[], ways: readonly boolean[]): void {
    const dims = [...to];
    // A zero stands for the size that was there.
    const same = dims.findIndex((size, i) => size === this.dims[i]);
    if (ways[1] && same >= 0) dims[same] = 0;
    if (ways[2] && dims.at(-1) !== 0) dims[dims.length - 1] = -1;
    const shape = this.#constant(Tensor.int64(this.#name('shape'), [dims.length], dims), ways);
    const strict = ways[0] && !dims.includes(0);
    this.#push('Reshape', [shape], strict ? [int('allowzero', 1)] : []);
  }

  /** By one value, or by one for each index of an axis; factors on either side. */
  scale(opType: 'Mul' | 'Div', pick: number, ways: readonly boolean[]): void {
    const rank = this.dims.length;
    const axis = pick % (rank + 1);
    const size = this.dims[axis] ?? 1;
    const behind = rank - 1 - axis;
    const one = rank === 0 || ways[0] ? [] : [1];
    const dims = axis === rank ? one : [...Array(ways[0] ? axis : 0).fill(1), size, ...Array(behind).fill(1)];
    const values = Array.from({ length: size }, (_, i) => (ways[1] ? -1 : 1) * 2 ** (((pick + i) % 5) - 2));
    const factor = this.#constant(Tensor.float32(this.#name('factor'), dims, values), ways);
    // Of two constants of one size the first is the weight.
    const clear = this.#value !== 'w' || size < this.size;
    const made = this.#push(opType, [factor]);
    if (opType === 'Mul' && ways[2] && clear) made.inputs.reverse();
  }

  #axes(opType: 'Squeeze' | 'Unsqueeze', axes: readonly number[], ways: readonly boolean[]): void {
    if (axes.length === 0) this.#push('Identity');
    else if (ways[0]) this.#push(opType, [], [ints('axes', axes)]);
    else this.#push(opType, [this.#constant(Tensor.int64(this.#name('axes'), [axes.length], axes), ways)]);
  }

  #name(what: string): string {
    return `${what}${this.#nodes.length}`;
  }

  /** An initializer, or a Constant node. */
  #constant(tensor: Tensor, ways: readonly boolean[]): string {
    if (ways[0]) this.#initializers.push(tensor);
    else this.#nodes.push(node('Constant', [], tensor.name, [{ name: 'value', type: 'tensor', value: tensor }]));
    return tensor.name;
  }

  #push(opType: string, inputs: string[] = [], attributes: Node['attributes'] = []): Node {
    const made = node(opType, [this.#value, ...inputs], `v${this.#nodes.length}`, attributes);
    this.#nodes.push(made);
    this.#value = made.outputs[0] as string;
    const { nodes, initializers } = this.done();
    this.dims = evaluate(this.#value, graph({ nodes, initializers })).dims;
    return made;
  }
}
