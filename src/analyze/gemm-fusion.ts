import type { Dim, Graph, Node } from '../ir/graph.js';
import { type GraphIndex, valuesRead } from '../ir/traverse.js';
import { constantTensor } from './constants.js';

/**
 * Finds the Adds that onnxruntime merges with the MatMul before them into a Gemm (its MatMulAddFusion): those of a constant vector, where the MatMul
 * multiplies matrices, or an activation all of whose dimensions are known, stated or following from those of inputs. It does so before it looks for quantized products, and of a Gemm with
 * a bias of floats it makes no integer kernel.
 */
export class GemmFusion {
  readonly #graph: Graph;
  readonly #index: GraphIndex;
  readonly #shapes: ReadonlyMap<string, readonly Dim[]>;
  readonly #exposed: ReadonlySet<string>;
  /** Values whose shape follows from an input that has an open one. */
  readonly #open: ReadonlySet<string>;

  constructor(graph: Graph, index: GraphIndex) {
    const { inputs, outputs, valueInfo, initializers } = graph;
    this.#graph = graph;
    this.#index = index;
    this.#exposed = new Set(outputs.map(({ name }) => name));
    this.#shapes = new Map(
      [...valueInfo, ...outputs, ...inputs].flatMap(({ name, dims }) => (dims ? [[name, dims] as const] : [])),
    );
    const open = new Set(
      inputs.filter(({ name, dims }) => !initializers.has(name) && !isKnown(dims)).map(({ name }) => name),
    );
    for (const node of graph.nodes) {
      if ([...valuesRead(node)].some((name) => open.has(name))) for (const name of node.outputs) open.add(name);
    }
    this.#open = open;
  }

  /** @returns the Add that would be merged with a MatMul */
  addBehind(product: Node): Node | undefined {
    const [output] = product.outputs;
    if (!product.isOnnx || product.opType !== 'MatMul' || output === undefined) return undefined;
    const uses = this.#index.consumers.get(output) ?? [];
    const [use] = uses;
    if (!use || uses.length > 1 || this.#exposed.has(output)) return undefined;
    if (!use.node.isOnnx || use.node.opType !== 'Add') return undefined;
    const rank = this.#biasRank(use.node.inputs[1 - use.input] ?? '');
    if (rank === undefined) return undefined;
    const [activation = ''] = product.inputs;
    const dims = this.#shapeOf(activation);
    const isFixed = isKnown(dims ?? null) || !this.#open.has(activation);
    const merged = dims?.length === 2 ? rank <= 2 : rank === 1 && isFixed;
    return merged ? use.node : undefined;
  }

  /** Rank of a constant, directly or through Casts. */
  #biasRank(name: string): number | undefined {
    const constant = constantTensor(name, this.#graph, this.#index);
    if (constant) return constant.dims.length;
    const node = this.#index.producers.get(name);
    return node?.isOnnx && node.opType === 'Cast' ? this.#biasRank(node.inputs[0] ?? '') : undefined;
  }

  /** As stated, of a value or of what it is made of element by element. */
  #shapeOf(name: string): readonly Dim[] | undefined {
    const stated = this.#shapes.get(name);
    if (stated) return stated;
    const node = this.#index.producers.get(name);
    return node && LIKE_INPUT.has(node.opType) ? this.#shapeOf(node.inputs[0] ?? '') : undefined;
  }
}

/** Operators whose result is shaped as their first input. */
const LIKE_INPUT = new Set(
  'Cast DequantizeLinear Gelu Identity LayerNormalization QuantizeLinear RMSNormalization Relu Sigmoid Tanh'.split(' '),
);

function isKnown(dims: readonly Dim[] | null): boolean {
  return dims?.every((dim) => typeof dim === 'number') ?? false;
}
