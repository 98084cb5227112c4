import { Graph, Node, type Value } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { subgraphs } from '../../../src/ir/traverse.js';
import { MersenneTwister } from '../../../src/numerics/rng.js';

/** A graph without its names, and the node that each of its nodes was. */
export interface Wiped {
  readonly graph: Graph;
  readonly origins: ReadonlyMap<Node, Node>;
}

/**
 * Renames every node, value, initializer, input and output to v0, v1, ... in shuffled order and drops metadata and the types of values in between.
 * Graphs with subgraphs are refused.
 *
 * @param ranks whether the inputs keep their ranks; symbols in their shapes go either way
 */
export function wipe(graph: Graph, seed: number, { ranks = true }: { readonly ranks?: boolean } = {}): Wiped {
  if (graph.nodes.some((node) => subgraphs(node).length > 0)) throw new Error('a subgraph would keep its names');
  const random = new MersenneTwister(seed);
  const values = new Set([
    ...graph.initializers.keys(),
    ...[...graph.inputs, ...graph.outputs].map(({ name }) => name),
    ...graph.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]),
  ]);
  values.delete('');
  const numbers = shuffled(
    Array.from({ length: values.size + graph.nodes.length }, (_, i) => `v${i}`),
    random,
  );
  const renamed = new Map([...values].map((name) => [name, numbers.pop() as string]));
  const rename = (name: string): string => renamed.get(name) ?? '';
  const retype = ({ name, dtype, dims }: Value): Value => ({
    name: rename(name),
    dtype,
    dims: ranks && dims ? dims.map((dim) => (typeof dim === 'string' ? null : dim)) : null,
  });
  const origins = new Map(
    graph.nodes.map((node) => {
      const { opType, domain, attributes } = node;
      const [inputs, outputs] = [node.inputs.map(rename), node.outputs.map(rename)];
      return [new Node({ opType, domain, name: numbers.pop() as string, inputs, outputs, attributes }), node];
    }),
  );
  const initializers = [...graph.initializers.values()].map(
    ({ name, dtype, dims, data }) => new Tensor(rename(name), dtype, dims, data),
  );
  return {
    graph: new Graph({
      name: '',
      nodes: [...origins.keys()],
      initializers: shuffled(initializers, random),
      inputs: shuffled(graph.inputs.map(retype), random),
      outputs: graph.outputs.map(retype),
    }),
    origins,
  };
}

/** The same graph with its nodes in another order that is topological too. */
export function reorder(graph: Graph, seed: number): Graph {
  const random = new MersenneTwister(seed);
  const makers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const readers = new Map<Node, Node[]>(graph.nodes.map((node) => [node, []]));
  const waitsFor = new Map<Node, number>();
  for (const node of graph.nodes) {
    const sources = new Set(node.inputs.flatMap((name) => makers.get(name) ?? []));
    waitsFor.set(node, sources.size);
    for (const source of sources) readers.get(source)?.push(node);
  }
  const ready = graph.nodes.filter((node) => waitsFor.get(node) === 0);
  const nodes: Node[] = [];
  while (ready.length > 0) {
    const [node] = ready.splice(random.uint32() % ready.length, 1) as [Node];
    nodes.push(node);
    for (const reader of readers.get(node) ?? []) {
      const left = (waitsFor.get(reader) as number) - 1;
      waitsFor.set(reader, left);
      if (left === 0) ready.push(reader);
    }
  }
  const { name, initializers, inputs, outputs, valueInfo } = graph;
  return new Graph({ name, nodes, initializers: initializers.values(), inputs, outputs, valueInfo });
}

function shuffled<T>(items: readonly T[], random: MersenneTwister): T[] {
  const left = [...items];
  for (let i = left.length - 1; i > 0; i--) {
    const j = random.uint32() % (i + 1);
    [left[i], left[j]] = [left[j] as T, left[i] as T];
  }
  return left;
}
