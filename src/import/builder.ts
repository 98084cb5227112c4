import { type Attribute, int, ints } from '../ir/attribute.js';
import { DataType, type DataTypeName } from '../ir/dtype.js';
import { Graph, Node, type Value } from '../ir/graph.js';
import { Tensor } from '../ir/tensor.js';
import { axisOf, broadcast, matmulShape, reshaped, type Size } from './shapes.js';
import type { WeightSource } from './weights.js';

/** A value of a graph that is being built. */
export interface Operand {
  readonly name: string;
  readonly dtype: DataTypeName;
  readonly dims: readonly Size[];
}

/** The parts of a graph that is being built, shared by all of its scopes. */
class Draft {
  readonly weights: WeightSource;
  readonly nodes: Node[] = [];
  readonly initializers = new Map<string, Tensor>();
  readonly inputs: Value[] = [];
  readonly valueInfo: Value[] = [];
  readonly #uses = new Map<string, number>();

  constructor(weights: WeightSource) {
    this.weights = weights;
  }

  /** @returns `name`, or `name_1`, `name_2`, ... for those after the first */
  unique(name: string): string {
    const uses = this.#uses.get(name) ?? 0;
    this.#uses.set(name, uses + 1);
    return uses === 0 ? name : `${name}_${uses}`;
  }

  constant(name: string, make: (name: string) => Tensor): Operand {
    let tensor = this.initializers.get(name);
    if (!tensor) {
      tensor = make(name);
      this.initializers.set(name, tensor);
    }
    return tensor;
  }
}

/**
 * Emits the operators of one module of the model. A scope's path is the module's place in the checkpoint: weights are found under it
 * (`blocks.0.attn1.to_q.weight`) and nodes are named by it (`/blocks.0/attn1/to_q/MatMul`, which makes `..._output_0`). Shapes are worked
 * out and stated as the graph grows; sizes that do not fit are an Error, and a mistake in the model's description.
 *
 * Operators as of ONNX opset 20.
 */
export class Scope {
  readonly #draft: Draft;
  readonly #path: readonly string[];

  private constructor(draft: Draft, path: readonly string[]) {
    this.#draft = draft;
    this.#path = path;
  }

  /** The scope of a whole model. */
  static root(weights: WeightSource): Scope {
    return new Scope(new Draft(weights), []);
  }

  in(module: string): Scope {
    return new Scope(this.#draft, [...this.#path, module]);
  }

  /** The finished graph. @param output the name that `of` gets, and its shape as inputs tell it */
  finish(name: string, of: Operand, output: { readonly name: string; readonly dims: readonly Size[] }): Graph {
    const { nodes, initializers, inputs, valueInfo } = this.#draft;
    for (const node of nodes) node.outputs = node.outputs.map((made) => (made === of.name ? output.name : made));
    return new Graph({
      name,
      nodes,
      initializers: initializers.values(),
      inputs,
      outputs: [{ ...output, dtype: of.dtype }],
      valueInfo: valueInfo.filter((value) => value.name !== of.name),
    });
  }

  input(name: string, dtype: DataTypeName, dims: readonly Size[]): Operand {
    const input = { name, dtype, dims };
    this.#draft.inputs.push(input);
    return input;
  }

  /** A weight of this module as float32: one that is stored in another type is cast where it is read. */
  weight(leaf: string, dims: readonly number[]): Operand {
    const name = [...this.#path, leaf].join('.');
    const stored = this.#draft.constant(name, () => this.#draft.weights.take(name, dims));
    if (stored.dtype === 'float32') return stored;
    return this.in(leaf).op('Cast', [stored], dims, [int('to', DataType.float32)]);
  }

  /** A constant of the model's description, kept in the graph file. */
  table(leaf: string, dims: readonly number[], values: Float32Array): Operand {
    return this.#draft.constant(this.#named(leaf), (name) => Tensor.float32(name, dims, values));
  }

  scalar(value: number): Operand {
    return this.#draft.constant(`/float/${value}`, (name) => Tensor.float32(name, [], [value]));
  }

  ones(length: number): Operand {
    return this.#draft.constant(`/ones/${length}`, (name) =>
      Tensor.float32(name, [length], new Float32Array(length).fill(1)),
    );
  }

  integers(values: readonly number[]): Operand {
    return this.#draft.constant(`/int/${values.join(',')}`, (name) => Tensor.int64(name, [values.length], values));
  }

  /** Any operator with one output. */
  op(
    opType: string,
    inputs: readonly Operand[],
    dims: readonly Size[],
    attributes: Attribute[] = [],
    dtype: DataTypeName = 'float32',
  ): Operand {
    return this.#emit(opType, inputs, [dims], attributes, dtype)[0] as Operand;
  }

  /** An operator that keeps its input's shape. */
  map(opType: string, x: Operand, attributes: Attribute[] = []): Operand {
    return this.op(opType, [x], x.dims, attributes, x.dtype);
  }

  add(a: Operand, b: Operand): Operand {
    return this.op('Add', [a, b], broadcast(a.dims, b.dims), [], a.dtype);
  }

  sub(a: Operand, b: Operand): Operand {
    return this.op('Sub', [a, b], broadcast(a.dims, b.dims), [], a.dtype);
  }

  mul(a: Operand, b: Operand): Operand {
    return this.op('Mul', [a, b], broadcast(a.dims, b.dims), [], a.dtype);
  }

  matmul(a: Operand, b: Operand): Operand {
    return this.op('MatMul', [a, b], matmulShape(a.dims, b.dims));
  }

  transpose(x: Operand, perm: readonly number[]): Operand {
    const dims = perm.map((axis) => x.dims[axis] as Size);
    return this.op('Transpose', [x], dims, [ints('perm', perm)], x.dtype);
  }

  /** @param to sizes, 0 for one that stays and -1 for the rest; @param rest what -1 stands for where symbols hide it */
  reshape(x: Operand, to: readonly number[], rest?: Size): Operand {
    return this.op('Reshape', [x, this.integers(to)], reshaped(x.dims, to, rest), [], x.dtype);
  }

  /** Reshapes to a size that the graph computes. */
  reshapeTo(x: Operand, shape: Operand, dims: readonly Size[]): Operand {
    return this.op('Reshape', [x, shape], dims, [], x.dtype);
  }

  expand(x: Operand, shape: Operand, dims: readonly Size[]): Operand {
    return this.op('Expand', [x, shape], dims, [], x.dtype);
  }

  unsqueeze(x: Operand, axis: number): Operand {
    const at = axisOf(axis, x.dims.length + 1);
    return this.op('Unsqueeze', [x, this.integers([axis])], x.dims.toSpliced(at, 0, 1), [], x.dtype);
  }

  squeeze(x: Operand, axis: number): Operand {
    const at = axisOf(axis, x.dims.length);
    return this.op('Squeeze', [x, this.integers([axis])], x.dims.toSpliced(at, 1), [], x.dtype);
  }

  concat(parts: readonly Operand[], axis: number): Operand {
    const [first] = parts as [Operand];
    const at = axisOf(axis, first.dims.length);
    const total = parts.reduce((sum, { dims }) => sum + Number(dims[at]), 0);
    return this.op('Concat', parts, first.dims.with(at, total), [int('axis', axis)], first.dtype);
  }

  /** Cuts an axis into `count` equal parts. */
  split(x: Operand, axis: number, count: number): Operand[] {
    const at = axisOf(axis, x.dims.length);
    const dims = x.dims.with(at, Number(x.dims[at]) / count);
    return this.#emit(
      'Split',
      [x],
      new Array(count).fill(dims),
      [int('axis', axis), int('num_outputs', count)],
      x.dtype,
    );
  }

  /** The first rows of a table, as many as the graph computes. @param count int64 `[1]` */
  firstRows(table: Operand, count: Operand, size: Size): Operand {
    const zero = this.integers([0]);
    return this.op('Slice', [table, zero, count, zero], table.dims.with(0, size), [], table.dtype);
  }

  /** Sizes of the axes [start, end) of a value, int64. */
  shape(x: Operand, start: number, end: number): Operand {
    return this.op('Shape', [x], [end - start], [int('start', start), int('end', end)], 'int64');
  }

  #named(leaf: string): string {
    return `/${[...this.#path, leaf].join('/')}`;
  }

  #emit(
    opType: string,
    inputs: readonly Operand[],
    shapes: readonly (readonly Size[])[],
    attributes: Attribute[],
    dtype: DataTypeName,
  ): Operand[] {
    const name = this.#draft.unique(this.#named(opType));
    const outputs = shapes.map((dims, i): Operand => ({ name: `${name}_output_${i}`, dtype, dims }));
    this.#draft.nodes.push(
      new Node({
        opType,
        name,
        inputs: inputs.map((input) => input.name),
        outputs: outputs.map((output) => output.name),
        attributes,
      }),
    );
    this.#draft.valueInfo.push(...outputs);
    return outputs;
  }
}
