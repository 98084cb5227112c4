import type { Dim, Graph, Node } from '../ir/graph.js';
import type { GraphIndex } from '../ir/traverse.js';
import { constantTensor } from './constants.js';
import type { Linear } from './linears.js';
import type { Attention } from './structure/attention.js';

/**
 * Where a graph can be changed so that a value comes out multiplied with one factor for each channel: operands to multiply, and linears whose
 * output channels to multiply.
 */
export interface ScaleSites {
  readonly operands: readonly Operand[];
  readonly linears: readonly Linear[];
}

/** An input of a node, with the channels in its last axis. */
export interface Operand {
  readonly node: Node;
  readonly input: number;
}

export interface ScaleContext {
  readonly graph: Graph;
  readonly index: GraphIndex;
  /** Values that are read by no node of the graph alone: its outputs, and what subgraphs capture. */
  readonly exposed: ReadonlySet<string>;
  /** Shapes of values, where the exporter stated them. */
  readonly shapes: ReadonlyMap<string, readonly Dim[]>;
  readonly attentions: readonly Attention[];
  /** Linears whose weights may be changed, by output. */
  readonly linears: ReadonlyMap<string, Linear>;
}

/** Operators on the way that leave channels where they are. */
const TRANSPARENT = new Set(['Identity', 'Cast', 'CastLike']);

const NONE: ScaleSites = { operands: [], linears: [] };

/**
 * Finds how a value can be scaled where it is made, at no cost for each token: in constants (norms, biases), in operands that are the same for all
 * tokens (modulation), in the output channels of a linear before it, through an attention too, whose results are weighted means of its values.
 *
 * @param channels of its last axis
 * @param readers nodes that are to see the value scaled
 * @returns undefined where something else reads the value too, or a nonlinear operator makes it
 */
export function scaleSites(
  value: string,
  channels: number,
  readers: ReadonlySet<Node>,
  context: ScaleContext,
): ScaleSites | undefined {
  const { index, shapes, exposed } = context;
  const uses = index.consumers.get(value) ?? [];
  // A node that reads it twice would see the factor twice.
  if (uses.some(({ node }) => !readers.has(node)) || new Set(uses.map(({ node }) => node)).size < uses.length)
    return undefined;
  const node = index.producers.get(value);
  if (!node || exposed.has(value)) return undefined;
  const [first = '', second = '', third = ''] = node.inputs;
  const linear = context.linears.get(value);
  /** An operand that is the same for every token. */
  const few = (input: number): ScaleSites | undefined =>
    isPerChannel(node.inputs[input] as string, channels, context)
      ? { operands: [{ node, input }], linears: [] }
      : undefined;
  const behind = (input: number): ScaleSites | undefined =>
    few(input) ?? scaleSites(node.inputs[input] as string, channels, new Set([node]), context);

  if (linear && linear.node === node) {
    if (linear.kind === 'Conv' || linear.outFeatures !== channels) return undefined;
    const bias = third === '' ? NONE : few(2);
    return bias && together([{ operands: [], linears: [linear] }, bias]);
  }
  if (!node.isOnnx) return undefined;
  if (TRANSPARENT.has(node.opType)) return scaleSites(first, channels, new Set([node]), context);
  switch (node.opType) {
    case 'Add':
    case 'Sub':
    case 'Sum':
      return together(node.inputs.map((_, input) => behind(input)));
    case 'Mul': {
      const options = [0, 1].map(behind).filter((sites) => sites !== undefined);
      return options.sort((a, b) => costOf(a, context) - costOf(b, context))[0];
    }
    case 'LayerNormalization': {
      const axis = node.intAttribute('axis', -1);
      if (second === '' || (axis !== -1 && axis !== (shapes.get(value)?.length ?? 0) - 1)) return undefined;
      return together([few(1), third === '' ? NONE : few(2)]);
    }
    default:
      return throughAttention(value, channels, context);
  }
}

/** Operands that have to be multiplied whenever the graph runs. */
function costOf({ operands }: ScaleSites, { graph, index }: ScaleContext): number {
  return operands.filter(({ node, input }) => !constantTensor(node.inputs[input] as string, graph, index)).length;
}

function together(parts: readonly (ScaleSites | undefined)[]): ScaleSites | undefined {
  if (parts.some((part) => part === undefined)) return undefined;
  const known = parts as readonly ScaleSites[];
  return {
    operands: known.flatMap(({ operands }) => operands),
    linears: known.flatMap(({ linears }) => linears),
  };
}

/** Whether a value has the channels in its last axis, and one token, or as many as there are constants. */
function isPerChannel(value: string, channels: number, { graph, index, shapes }: ScaleContext): boolean {
  const constant = constantTensor(value, graph, index);
  if (constant) return constant.dims.at(-1) === channels;
  const shape = shapes.get(value);
  return shape?.at(-1) === channels && shape.at(-2) === 1;
}

/** Axes of a value that hold a linear's channels, the slowest first. */
type ChannelAxes = readonly number[];

/**
 * Goes back from the result of an attention to the linear that makes its values, as long as the channels can be followed through the axes:
 * output channel c then is a mean of value channel c, weighted by probabilities that no scale touches.
 */
function throughAttention(value: string, channels: number, context: ScaleContext): ScaleSites | undefined {
  const { index, attentions } = context;
  const outer = followBack(value, [rankOf(value, context) - 1], context);
  const attention = outer && attentions.find(({ node }) => node.outputs[0] === outer.value);
  if (!outer || !attention || !weighsValuesAlone(attention)) return undefined;
  const rank = rankOf(outer.value, context);
  // Probabilities are on the left; on the right the tokens are the axis before the last.
  const composed = attention.softmax !== undefined;
  const right = attention.node.inputs[composed ? 1 : 2] === attention.value;
  if (!right || rank !== rankOf(attention.value, context) || outer.axes.at(-1) !== rank - 1) return undefined;
  if (outer.axes.includes(rank - 2)) return undefined;
  if (!readBy(attention.value, attention.node, context)) return undefined;
  const inner = followBack(attention.value, outer.axes, context);
  if (inner?.axes.length !== 1 || inner.axes[0] !== rankOf(inner.value, context) - 1) return undefined;
  const readers = new Set(index.consumers.get(inner.value)?.map(({ node }) => node));
  return readers.size === 1 ? scaleSites(inner.value, channels, readers, context) : undefined;
}

function rankOf(value: string, { shapes }: ScaleContext): number {
  return shapes.get(value)?.length ?? 0;
}

/** Whether the values are the right operand of a plain product, or of one operator that adds nothing to them and keeps none of them. */
function weighsValuesAlone({ node, softmax }: Attention): boolean {
  if (!node.isOnnx) return false;
  if (softmax) return node.opType === 'MatMul';
  const [, , , , , past = ''] = node.inputs;
  return node.opType === 'Attention' && past === '' && node.outputs.slice(1).every((name) => name === '');
}

function readBy(value: string, reader: Node, { index, exposed }: ScaleContext): boolean {
  const uses = index.consumers.get(value) ?? [];
  return uses.length === 1 && uses[0]?.node === reader && !exposed.has(value);
}

/** Goes back through operators that move axes, as far as they go. Everything on the way has one reader. */
function followBack(
  value: string,
  axes: ChannelAxes,
  context: ScaleContext,
): { readonly value: string; readonly axes: ChannelAxes } | undefined {
  const node = context.index.producers.get(value);
  const from = node?.inputs[0];
  const moved = node && from !== undefined ? axesBefore(node, axes, context) : undefined;
  if (!node || from === undefined || moved === undefined) return { value, axes };
  if (!readBy(from, node, context)) return undefined;
  return followBack(from, moved, context);
}

function axesBefore(node: Node, axes: ChannelAxes, { shapes }: ScaleContext): ChannelAxes | undefined {
  if (!node.isOnnx) return undefined;
  if (TRANSPARENT.has(node.opType)) return axes;
  if (node.opType === 'Transpose') {
    const perm = node.attribute('perm');
    return perm?.type === 'ints' ? axes.map((axis) => Number(perm.value[axis])) : undefined;
  }
  if (node.opType !== 'Reshape') return undefined;
  const after = shapes.get(node.outputs[0] as string);
  const before = shapes.get(node.inputs[0] as string);
  return after && before ? axesBeforeReshape(before, after, axes) : undefined;
}

/** Heads and the channels of a head in the last two axes on one side, all channels in the last axis on the other. */
function axesBeforeReshape(before: readonly Dim[], after: readonly Dim[], axes: ChannelAxes): ChannelAxes | undefined {
  const splits = (wide: readonly Dim[], narrow: readonly Dim[]): boolean => {
    const [heads, each] = wide.slice(-2);
    return (
      wide.length === narrow.length + 1 &&
      typeof heads === 'number' &&
      typeof each === 'number' &&
      narrow.at(-1) === heads * each
    );
  };
  const last = after.length - 1;
  if (axes.length === 1 && axes[0] === last && splits(before, after)) return [before.length - 2, before.length - 1];
  if (axes.length === 2 && axes[0] === last - 1 && axes[1] === last && splits(after, before))
    return [before.length - 1];
  return undefined;
}
