import type { Graph } from './graph.js';
import { subgraphs } from './traverse.js';

/** Hands out value and node names that no value or node of the graph, or of its subgraphs, has yet. */
export class NameAuthority {
  readonly #taken = new Set<string>();

  constructor(graph: Graph) {
    this.#collect(graph);
  }

  #collect(graph: Graph): void {
    for (const name of graph.initializers.keys()) this.#taken.add(name);
    for (const { name } of [...graph.inputs, ...graph.outputs, ...graph.valueInfo]) this.#taken.add(name);
    for (const node of graph.nodes) {
      this.#taken.add(node.name);
      for (const name of node.outputs) this.#taken.add(name);
      for (const inner of subgraphs(node)) this.#collect(inner);
    }
  }

  /** @returns `wanted`, or `wanted_1`, `wanted_2`, ... if it is taken. The name is taken afterwards. */
  unique(wanted: string): string {
    let name = wanted;
    for (let n = 1; this.#taken.has(name); n++) name = `${wanted}_${n}`;
    this.#taken.add(name);
    return name;
  }
}
