import type { Graph, Node } from './graph.js';

/** Who makes and who uses each value of a graph. A snapshot: build a new one after a change. */
export interface GraphIndex {
  /** Value name to the node that produces it. */
  readonly producers: ReadonlyMap<string, Node>;
  /** Value name to its uses in this graph, in node order. */
  readonly consumers: ReadonlyMap<string, readonly Use[]>;
}

export interface Use {
  readonly node: Node;
  /** Position among the node's inputs. */
  readonly input: number;
}

export function indexGraph(graph: Graph): GraphIndex {
  const producers = new Map<string, Node>();
  const consumers = new Map<string, Use[]>();
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output !== '') producers.set(output, node);
    node.inputs.forEach((name, input) => {
      if (name === '') return;
      const uses = consumers.get(name);
      if (uses) uses.push({ node, input });
      else consumers.set(name, [{ node, input }]);
    });
  }
  return { producers, consumers };
}

/** Graphs that hang on a node's attributes (If, Loop, Scan). */
export function subgraphs(node: Node): Graph[] {
  return node.attributes.flatMap((attribute) =>
    attribute.type === 'graph' ? [attribute.value] : attribute.type === 'graphs' ? [...attribute.value] : [],
  );
}

/** Every value name a node reads, including names that its subgraphs capture from the enclosing scope. */
export function valuesRead(node: Node): Set<string> {
  const names = new Set(node.inputs.filter((name) => name !== ''));
  for (const graph of subgraphs(node)) {
    const local = new Set<string>([...graph.initializers.keys(), ...graph.inputs.map(({ name }) => name)]);
    for (const inner of graph.nodes) {
      for (const name of valuesRead(inner)) if (!local.has(name)) names.add(name);
      for (const name of inner.outputs) local.add(name);
    }
    for (const { name } of graph.outputs) if (!local.has(name)) names.add(name);
  }
  return names;
}
