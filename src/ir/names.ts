import type { Graph } from './graph.js';
import { subgraphs } from './traverse.js';

/** Hands out value and node names that no value or node of the graph, or of its subgraphs, has yet. */
export class NameAuthority {
  readonly #taken = new Set<string>();
  /** Number to try next for a name that is taken. */
  readonly #next = new Map<string, number>();

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
    let n = this.#next.get(wanted) ?? 1;
    for (; this.#taken.has(name); n++) name = `${wanted}_${n}`;
    this.#next.set(wanted, n);
    this.#taken.add(name);
    return name;
  }
}
