import { type DataTypeName, dataTypeName, isStorableFloat } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import { Tensor } from '../ir/tensor.js';
import type { GraphIndex } from '../ir/traverse.js';
import { constantTensor, integers } from './constants.js';
import { typeOf } from './value-types.js';

/** Factors that are multiplied into a weight before it is used: one for all of it, or one for each input or output feature. */
export interface WeightFactor {
  readonly along: 'in' | 'out' | 'all';
  readonly values: Tensor;
  /** Whether the weight is divided by them. */
  readonly divides: boolean;
}

/** How the matrix that a product reads comes of a stored constant. */
export interface WeightChain {
  /** The constant as it is stored. */
  readonly stored: Tensor;
  /** Its bytes seen as a matrix; undefined where the value has another number of axes, or its elements lie in another order. */
  readonly matrix: Tensor | undefined;
  /** Whether the value is the matrix's transpose. */
  readonly transposed: boolean;
  /** Along the rows or columns that the product reads. */
  readonly factors: readonly { readonly axis: 0 | 1 | null; readonly values: Tensor; readonly divides: boolean }[];
  /** Type of what the product reads; undefined where a CastLike follows a value of unknown type. */
  readonly computeType: DataTypeName | undefined;
  /** Operators between the constant and the product, first one first. */
  readonly steps: readonly string[];
}

/** An axis of a view of the stored tensor. */
interface Axis {
  readonly size: number;
  /** Elements of the stored tensor from one index to the next. */
  readonly stride: number;
}

interface Factor {
  readonly axis: Axis | null;
  readonly values: Tensor;
  readonly divides: boolean;
}

/** Longer chains are no export's. */
const MAX_STEPS = 32;

/**
 * Follows a value back to a constant through operators that do no more than rearrange, cast or scale it, and works out where every element of
 * the value is stored.
 *
 * @returns undefined where the value is computed
 */
export function weightChain(value: string, graph: Graph, index: GraphIndex): WeightChain | undefined {
  const nodes: Node[] = [];
  let name = value;
  let stored = constantTensor(name, graph, index);
  while (!stored) {
    const node = index.producers.get(name);
    const source = node && dataInput(node, graph, index);
    if (source === undefined || nodes.length === MAX_STEPS) return undefined;
    nodes.unshift(node as Node);
    name = source;
    stored = constantTensor(name, graph, index);
  }
  if (!isStorableFloat(stored.dtype)) return undefined;
  return replay(stored, nodes, graph, index);
}

/** The input that carries the weight on, of an operator that a chain may pass. */
function dataInput({ opType, isOnnx, inputs }: Node, graph: Graph, index: GraphIndex): string | undefined {
  if (!isOnnx) return undefined;
  if (opType === 'Mul') {
    const [a, b] = inputs as [string, string];
    // The larger of two constants is the weight.
    const isFactor = (name: string): boolean => constantTensor(name, graph, index) !== undefined;
    const sizeOf = (name: string): number => constantTensor(name, graph, index)?.elements ?? Number.POSITIVE_INFINITY;
    if (!isFactor(a) && !isFactor(b)) return undefined;
    return sizeOf(a) >= sizeOf(b) ? a : b;
  }
  if (opType === 'Div') return constantTensor(inputs[1] ?? '', graph, index) && inputs[0];
  return STEPS.has(opType) ? inputs[0] : undefined;
}

/** What an operator makes of a view, given its node; undefined where it cannot be followed. */
type Step = (
  view: readonly Axis[],
  node: Node,
  constant: (input: number) => number[] | undefined,
) => Axis[] | undefined;

const keep: Step = (view) => [...view];

const STEPS: ReadonlyMap<string, Step> = new Map(
  Object.entries<Step>({
    Identity: keep,
    Cast: keep,
    CastLike: keep,
    Transpose: (view, node) => {
      const perm = node.attribute('perm');
      if (perm === undefined) return view.toReversed();
      if (perm.type !== 'ints' || perm.value.length !== view.length) return undefined;
      const axes = perm.value.map((from) => view[Number(from)]);
      return axes.every((axis) => axis !== undefined) ? axes : undefined;
    },
    Squeeze: (view, node, constant) => {
      const axes = axesOf(node, constant);
      if (axes === null) return view.filter(({ size }) => size !== 1);
      const gone = new Set(axes?.map((axis) => (axis < 0 ? axis + view.length : axis)));
      return axes && [...gone].every((axis) => view[axis]?.size === 1)
        ? view.filter((_, i) => !gone.has(i))
        : undefined;
    },
    Unsqueeze: (view, node, constant) => {
      const axes = axesOf(node, constant);
      if (!axes) return undefined;
      const rank = view.length + axes.length;
      const added = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)));
      const left = [...view];
      return Array.from({ length: rank }, (_, i) => (added.has(i) ? UNIT : (left.shift() ?? UNIT)));
    },
    Reshape: (view, node, constant) => {
      const shape = constant(1);
      return shape && reshape(view, shape, node.intAttribute('allowzero', 0) !== 0);
    },
    Flatten: (view, node) => {
      const axis = node.intAttribute('axis', 1);
      const at = axis < 0 ? axis + view.length : axis;
      return reshape(view, [sizeOf(view.slice(0, at)), sizeOf(view.slice(at))], true);
    },
  }),
);

const UNIT: Axis = { size: 1, stride: 0 };

/** @returns null where the operator names no axes; undefined where they are not constant */
function axesOf(node: Node, constant: (input: number) => number[] | undefined): number[] | null | undefined {
  const attribute = node.attribute('axes');
  if (attribute?.type === 'ints') return attribute.value.map(Number);
  return (node.inputs[1] ?? '') === '' ? null : constant(1);
}

function replay(stored: Tensor, nodes: readonly Node[], graph: Graph, index: GraphIndex): WeightChain | undefined {
  let view: Axis[] | undefined = contiguous(stored.dims);
  let computeType: DataTypeName | undefined = stored.dtype;
  const factors: Factor[] = [];
  for (const node of nodes) {
    // The values are others where something goes on with them as integers.
    if (computeType !== undefined && !isStorableFloat(computeType)) return undefined;
    const constant = (input: number): number[] | undefined => {
      const tensor = constantTensor(node.inputs[input] ?? '', graph, index);
      return tensor && integers(tensor);
    };
    if (node.opType === 'Mul' || node.opType === 'Div') {
      const factor = factorOf(node, view, graph, index);
      if (!factor) return undefined;
      factors.push(factor);
      continue;
    }
    view = STEPS.get(node.opType)?.(view, node, constant);
    if (!view) return undefined;
    if (node.opType === 'Cast') computeType = dataTypeName(node.intAttribute('to', 0));
    if (node.opType === 'CastLike') computeType = typeOf(node.inputs[1] ?? '', graph, index);
  }
  const axes = factors.map((factor) => axisOf(factor, view));
  if (axes.includes(undefined)) return undefined;
  return {
    stored,
    ...layout(stored, view),
    factors: factors.map(({ values, divides }, i) => ({ axis: axes[i] as 0 | 1 | null, values, divides })),
    computeType,
    steps: nodes.map(({ opType }) => opType),
  };
}

/** The factor of a Mul or Div: a scalar, or one value for each index of one axis. */
function factorOf(node: Node, view: readonly Axis[], graph: Graph, index: GraphIndex): Factor | undefined {
  const source = dataInput(node, graph, index);
  const values = constantTensor(node.inputs.find((name) => name !== source) ?? '', graph, index);
  if (!values || !isStorableFloat(values.dtype)) return undefined;
  // More axes than the weight would make the product one of another rank.
  if (values.dims.length > view.length) return undefined;
  const divides = node.opType === 'Div';
  if (values.elements === 1) return { axis: null, values, divides };
  const offset = view.length - values.dims.length;
  const wide = values.dims.flatMap((size, i) => (size === 1 ? [] : [view[i + offset] as Axis]));
  const [axis] = wide;
  return wide.length === 1 && axis?.size === values.elements ? { axis, values, divides } : undefined;
}

/** Which axis of the matrix a factor lies along, after all that came behind it. */
function axisOf({ axis }: Factor, view: readonly Axis[]): 0 | 1 | null | undefined {
  if (axis === null) return null;
  const found = view.findIndex(({ size, stride }) => size === axis.size && stride === axis.stride);
  return found < 0 ? undefined : (found as 0 | 1);
}

/** The stored bytes as a matrix, where a view of two axes is that matrix or its transpose. */
function layout(stored: Tensor, view: readonly Axis[]): Pick<WeightChain, 'matrix' | 'transposed'> {
  const none = { matrix: undefined, transposed: false };
  const [rows, columns] = view as [Axis, Axis];
  if (view.length !== 2) return none;
  const matrix = (dims: number[]): Tensor => new Tensor(stored.name, stored.dtype, dims, stored.data);
  const lies = (outer: Axis, inner: Axis): boolean =>
    (inner.size === 1 || inner.stride === 1) && (outer.size === 1 || outer.stride === inner.size);
  if (lies(rows, columns)) return { matrix: matrix([rows.size, columns.size]), transposed: false };
  if (lies(columns, rows)) return { matrix: matrix([columns.size, rows.size]), transposed: true };
  return none;
}

function contiguous(dims: readonly number[]): Axis[] {
  let stride = 1;
  return dims
    .toReversed()
    .map((size) => {
      const axis = { size, stride };
      stride *= size;
      return axis;
    })
    .reverse();
}

function sizeOf(view: readonly Axis[]): number {
  return view.reduce((product, { size }) => product * size, 1);
}

/** A view with other axes over the same elements, where strides can express it. */
function reshape(view: readonly Axis[], wanted: readonly number[], zeroIsZero: boolean): Axis[] | undefined {
  const dims = wanted.map((dim, i) => (dim === 0 && !zeroIsZero ? (view[i]?.size ?? 0) : dim));
  const known = dims.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
  const sizes = dims.map((dim) => (dim === -1 ? sizeOf(view) / known : dim));
  if (sizes.some((size) => !(size > 0) || !Number.isInteger(size))) return undefined;
  if (sizes.reduce((a, b) => a * b, 1) !== sizeOf(view)) return undefined;
  const old = merged(view);
  const made: Axis[] = [];
  // From the last axis to the first: each run of elements that follow each other is cut into the sizes asked for.
  let run = old.pop();
  let left = run?.size ?? 1;
  let stride = run?.stride ?? 1;
  for (const size of sizes.toReversed()) {
    if (size === 1) {
      made.unshift(UNIT);
      continue;
    }
    if (left === 1) {
      run = old.pop();
      left = run?.size ?? 1;
      stride = run?.stride ?? 1;
    }
    if (left % size !== 0) return undefined;
    made.unshift({ size, stride });
    left /= size;
    stride *= size;
  }
  return made;
}

/** Neighbouring axes that run on into each other as one. */
function merged(view: readonly Axis[]): Axis[] {
  const runs: Axis[] = [];
  for (const axis of view) {
    if (axis.size === 1) continue;
    const last = runs.at(-1);
    if (last && last.stride === axis.size * axis.stride)
      runs.splice(-1, 1, { size: last.size * axis.size, stride: axis.stride });
    else runs.push(axis);
  }
  return runs;
}
