import type { Graph } from '../ir/graph.js';
import { type GraphIndex, indexGraph, valuesRead } from '../ir/traverse.js';
import { isConstant } from './constants.js';
import { findLinears } from './linears.js';
import { blockOf } from './roles.js';
import { blockCount } from './select.js';

/** A place to cut a topologically ordered graph in two. */
export interface Boundary {
  /** Nodes before this index lie before the cut. */
  readonly position: number;
  /** Values made before the cut and read after it; constants, which either side can hold, are left out. */
  readonly crossing: readonly string[];
}

/**
 * The cuts before the first transformer block, between any two, and after the last: `blocks + 1` of them, in order. Each lies where the
 * fewest values cross, which is where nothing but the hidden states and what all blocks share is alive, and only values whose type the
 * graph states cross it.
 *
 * @param graph in topological order
 * @returns none where the blocks are unknown, do not stand one after the other, or cannot be cut apart
 */
export function blockBoundaries(graph: Graph): Boundary[] {
  const spans = blockSpans(graph);
  if (!spans) return [];
  const alive = new Liveness(graph);
  const cuts: Boundary[] = [];
  for (let i = 0; i <= spans.blocks.length; i++) {
    const from = (i === 0 ? spans.lastBefore : (spans.blocks[i - 1] as Span).last) + 1;
    const to = i < spans.blocks.length ? (spans.blocks[i] as Span).first : spans.firstAfter;
    const position = alive.narrowest(from, to);
    if (position === undefined) return [];
    cuts.push({ position, crossing: alive.crossing(position) });
  }
  return cuts;
}

interface Span {
  first: number;
  last: number;
}

/** Node positions of each block's first and last linear, and of the nearest linears around the blocks. */
function blockSpans(graph: Graph): { blocks: Span[]; lastBefore: number; firstAfter: number } | undefined {
  const positions = new Map(graph.nodes.map((node, i) => [node, i]));
  const linears = findLinears(graph);
  const blocks: Span[] = [];
  const outside: number[] = [];
  for (const { role, node } of linears) {
    const position = positions.get(node) as number;
    const block = blockOf(role);
    if (block === undefined) {
      outside.push(position);
      continue;
    }
    const span = blocks[block];
    if (span) span.last = position;
    else blocks[block] = { first: position, last: position };
  }
  const count = blockCount(linears);
  const complete = count > 0 && Array.from({ length: count }, (_, i) => blocks[i]).every((span) => span !== undefined);
  const ordered = complete && blocks.every((span, i) => i === 0 || span.first > (blocks[i - 1] as Span).last);
  if (!ordered) return undefined;
  const { first } = blocks[0] as Span;
  const { last } = blocks.at(-1) as Span;
  if (outside.some((position) => position > first && position < last)) return undefined;
  return {
    blocks,
    lastBefore: Math.max(-1, ...outside.filter((position) => position < first)),
    firstAfter: Math.min(graph.nodes.length, ...outside.filter((position) => position > last)),
  };
}

/** From where to where each value is alive. */
class Liveness {
  readonly #values: readonly { readonly name: string; readonly made: number; readonly read: number }[];
  /** How many values cross each position; infinite where one of them has no stated type. */
  readonly #crossings: Float64Array;

  constructor(graph: Graph, index: GraphIndex = indexGraph(graph)) {
    const lastRead = new Map<string, number>();
    graph.nodes.forEach((node, i) => {
      for (const name of valuesRead(node)) lastRead.set(name, i);
    });
    for (const { name } of graph.outputs) lastRead.set(name, graph.nodes.length);
    const typed = new Set(
      [...graph.valueInfo, ...graph.outputs].filter(({ dtype }) => dtype !== null).map(({ name }) => name),
    );
    const positions = new Map(graph.nodes.map((node, i) => [node, i]));
    this.#values = [...index.producers].flatMap(([name, node]) => {
      const read = lastRead.get(name);
      return read === undefined || isConstant(node) ? [] : [{ name, made: positions.get(node) as number, read }];
    });
    const changes = new Float64Array(graph.nodes.length + 2);
    const untyped = new Float64Array(graph.nodes.length + 2);
    for (const { name, made, read } of this.#values) {
      const list = typed.has(name) ? changes : untyped;
      list[made + 1] = (list[made + 1] as number) + 1;
      list[read + 1] = (list[read + 1] as number) - 1;
    }
    let [count, unknown] = [0, 0];
    this.#crossings = changes.map((change, i) => {
      count += change;
      unknown += untyped[i] as number;
      return unknown > 0 ? Number.POSITIVE_INFINITY : count;
    });
  }

  /** The first position in [from, to] that the fewest values cross. */
  narrowest(from: number, to: number): number | undefined {
    let best: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (let position = from; position <= to; position++) {
      const count = this.#crossings[position] as number;
      if (count >= least) continue;
      least = count;
      best = position;
    }
    return best;
  }

  crossing(position: number): string[] {
    return this.#values.filter(({ made, read }) => made < position && read >= position).map(({ name }) => name);
  }
}
