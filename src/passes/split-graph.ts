import type { Boundary } from '../analyze/boundaries.js';
import { isConstant } from '../analyze/constants.js';
import { Graph, type Model, type Node, type Value } from '../ir/graph.js';
import { indexGraph, valuesRead } from '../ir/traverse.js';

/** A run of a graph's nodes as a graph of its own. */
export interface Segment {
  readonly graph: Graph;
  /** Graph inputs of the whole model that this segment reads. */
  readonly feeds: readonly string[];
  /** Values of earlier segments that this one reads. */
  readonly takes: readonly string[];
  /** Values that later segments read. */
  readonly gives: readonly string[];
  /** Outputs of the whole model that this segment makes. */
  readonly outputs: readonly string[];
}

/**
 * Cuts a graph at boundaries into segments that, run one after the other, compute what the whole computes. The model is left as it is; the
 * segments share its nodes and tensors.
 *
 * @param cuts in ascending order; values that cross them need types in the graph's value infos
 */
export function splitGraph({ graph }: Model, cuts: readonly Boundary[]): Segment[] {
  const { producers } = indexGraph(graph);
  const types = new Map([...graph.valueInfo, ...graph.outputs].map((value) => [value.name, value]));
  const graphOutputs = new Set(graph.outputs.map(({ name }) => name));
  const ends = [...cuts.map(({ position }) => position), graph.nodes.length];
  const readLater = ends.map(() => new Set<string>());
  const parts = ends.map((end, i) => graph.nodes.slice(i === 0 ? 0 : (ends[i - 1] as number), end));
  const reads = parts.map((nodes) => new Set(nodes.flatMap((node) => [...valuesRead(node)])));
  for (let i = parts.length - 2; i >= 0; i--) {
    readLater[i] = new Set([...(readLater[i + 1] as Set<string>), ...(reads[i + 1] as Set<string>)]);
  }
  return parts.map((nodes, i) => {
    const made = new Set(nodes.flatMap(({ outputs }) => outputs));
    const constants: Node[] = [];
    const takes: string[] = [];
    for (const name of reads[i] as Set<string>) {
      const producer = producers.get(name);
      if (!producer || made.has(name)) continue;
      if (isConstant(producer)) constants.push(producer);
      else takes.push(name);
    }
    const feeds = graph.inputs.filter(({ name }) => reads[i]?.has(name) && !graph.initializers.has(name));
    const constantsMade = new Set(nodes.filter(isConstant).flatMap(({ outputs }) => outputs));
    const gives = [...made].filter((name) => readLater[i]?.has(name) && !constantsMade.has(name));
    const outputs = graph.outputs.filter(({ name }) => made.has(name));
    const typed = (names: readonly string[]): Value[] => names.map((name) => types.get(name) as Value);
    return {
      graph: new Graph({
        name: `${graph.name}_${i}`,
        nodes: [...constants, ...nodes],
        initializers: [...graph.initializers.values()].filter(({ name }) => reads[i]?.has(name)),
        inputs: [...feeds, ...typed(takes)],
        outputs: [...outputs, ...typed(gives.filter((name) => !graphOutputs.has(name)))],
        valueInfo: graph.valueInfo.filter(({ name }) => made.has(name)),
      }),
      feeds: feeds.map(({ name }) => name),
      takes,
      gives,
      outputs: outputs.map(({ name }) => name),
    };
  });
}
