import type { Node } from '../ir/graph.js';
import { valuesRead } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';

interface Visit {
  readonly node: Node;
  /** Values it reads whose producers are not placed yet, first one last. */
  readonly waiting: string[];
}

/** Orders nodes so that every value is made before it is used, as ONNX demands; nodes that are in order keep their places. */
export const topologicalSort: Pass = {
  name: 'topological-sort',
  description: 'orders nodes so that every value is made before it is used',
  run(model) {
    const { graph } = model;
    const producers = new Map<string, Node>();
    for (const node of graph.nodes) for (const output of node.outputs) producers.set(output, node);
    const sorted: Node[] = [];
    const seen = new Set<Node>();
    // Depth first, with a stack of our own: the chain of producers is as deep as the graph is long.
    for (const root of graph.nodes) {
      const stack = seen.has(root) ? [] : [visit(root)];
      while (stack.length > 0) {
        const { node, waiting } = stack.at(-1) as Visit;
        const name = waiting.pop();
        if (name === undefined) {
          sorted.push(node);
          stack.pop();
          continue;
        }
        // A node that was seen is either placed already or waits further down the stack, which is a cycle.
        const producer = producers.get(name);
        if (producer && !seen.has(producer)) stack.push(visit(producer));
      }
    }

    function visit(node: Node): Visit {
      seen.add(node);
      return { node, waiting: [...valuesRead(node)].reverse() };
    }

    const moved = counted(sorted.filter((node, i) => node !== graph.nodes[i]).length, 'node');
    graph.nodes = sorted;
    return moved && `moved ${moved}`;
  },
};
