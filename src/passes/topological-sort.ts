import type { Node } from '../ir/graph.js';
import { valuesRead } from '../ir/traverse.js';
import type { Pass } from './pass.js';

/** Orders nodes so that every value is made before it is used, as ONNX demands; nodes that are in order keep their places. */
export const topologicalSort: Pass = {
  name: 'topological-sort',
  description: 'orders nodes so that every value is made before it is used',
  run(model) {
    const { graph } = model;
    const producers = new Map<string, Node>();
    for (const node of graph.nodes) for (const output of node.outputs) producers.set(output, node);
    const sorted: Node[] = [];
    const done = new Set<Node>();
    // An explicit stack: the chain of producers is as deep as the graph is long.
    for (const root of graph.nodes) {
      const stack = [root];
      while (stack.length > 0) {
        const node = stack.at(-1) as Node;
        const missing = done.has(node)
          ? []
          : [...valuesRead(node)]
              .map((name) => producers.get(name))
              .filter((producer) => producer !== undefined && producer !== node && !done.has(producer));
        if (missing.length > 0 && stack.length <= graph.nodes.length) {
          stack.push(...(missing as Node[]).reverse());
          continue;
        }
        stack.pop();
        if (!done.has(node)) {
          done.add(node);
          sorted.push(node);
        }
      }
    }
    const modified = sorted.some((node, i) => node !== graph.nodes[i]);
    graph.nodes = sorted;
    return modified;
  },
};
