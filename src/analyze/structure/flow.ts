import type { Graph, Node } from '../../ir/graph.js';
import { type GraphIndex, subgraphs, valuesRead } from '../../ir/traverse.js';

/** What reaches a value. Sets are bits of a bigint, so that values that share a set share its memory. */
export interface Reach {
  /** Sources from which data comes without passing another source. */
  readonly near: bigint;
  /** Graph inputs that the data depends on, through whatever. */
  readonly inputs: bigint;
  /** Sources on the longest way to the value. */
  readonly depth: number;
}

/** A node that others are told apart by: a linear or an attention. */
export interface Source {
  readonly node: Node;
  /** Values that its result is computed of, weights aside. */
  readonly reads: readonly string[];
}

const NOTHING: Reach = { near: 0n, inputs: 0n, depth: 0 };

/** Operators that take a shape or a type from an input, and no data. */
const SHAPE_ONLY = new Set(['Shape', 'Size', 'EyeLike', 'RandomNormalLike', 'RandomUniformLike']);

/** Values whose data an operator passes on; what gives a shape or a type alone is left out. */
export function dataInputs(node: Node): readonly string[] {
  if (SHAPE_ONLY.has(node.opType)) return [];
  if (node.opType === 'CastLike') return node.inputs.slice(0, 1);
  return subgraphs(node).length === 0 ? node.inputs : [...valuesRead(node)];
}

/** What reaches every value of a graph. */
export class DataFlow {
  readonly #values = new Map<string, Reach>();

  /** @param sources each at most once a node; bit i of `near` is the i-th of them */
  constructor(graph: Graph, sources: readonly Source[]) {
    // Old graphs list their initializers as inputs too.
    const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
    for (const [i, { name }] of inputs.entries()) {
      this.#values.set(name, { near: 0n, inputs: 1n << BigInt(i), depth: 0 });
    }
    const bits = new Map(sources.map((source, i) => [source.node, { source, bit: 1n << BigInt(i) }]));
    for (const node of graph.nodes) {
      const found = bits.get(node);
      const reach = this.#union(found ? found.source.reads : dataInputs(node));
      const after = found ? { near: found.bit, inputs: reach.inputs, depth: reach.depth + 1 } : reach;
      if (after === NOTHING) continue;
      // The name of an omitted output is that of an omitted input too.
      for (const output of node.outputs) if (output !== '') this.#values.set(output, after);
    }
  }

  of(value: string): Reach {
    return this.#values.get(value) ?? NOTHING;
  }

  #union(names: readonly string[]): Reach {
    let all = NOTHING;
    for (const name of names) {
      const one = this.#values.get(name);
      if (one === undefined || one === all) continue;
      if (all === NOTHING) all = one;
      else {
        const near = all.near | one.near;
        const inputs = all.inputs | one.inputs;
        const depth = Math.max(all.depth, one.depth);
        if (near === one.near && inputs === one.inputs && depth === one.depth) all = one;
        else if (near !== all.near || inputs !== all.inputs || depth !== all.depth) all = { near, inputs, depth };
      }
    }
    return all;
  }
}

/** Operators that only normalizations have. An image's features are normalized before their first linear, a text's are not. */
export const NORMALIZATION = /Normalization$|^ReduceMean$/;

/** Whether a set has exactly one member. */
export function isSingle(bits: bigint): boolean {
  return bits !== 0n && (bits & (bits - 1n)) === 0n;
}

/**
 * Goes back from a value, nearest nodes first.
 *
 * @param limit values to look at before giving up
 * @param enter whether to go on behind a node
 */
export function walkBack(value: string, index: GraphIndex, limit: number, enter: (node: Node) => boolean): void {
  const seen = new Set<Node>();
  const queue = [value];
  for (const name of queue) {
    const node = index.producers.get(name);
    if (!node || seen.has(node)) continue;
    seen.add(node);
    // What is behind a node with subgraphs would take as long to tell as they are large.
    if (!enter(node) || subgraphs(node).length > 0) continue;
    queue.push(...dataInputs(node).slice(0, limit - queue.length));
  }
}
