import type { Graph } from '../ir/graph.js';
import { valuesRead } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';

/** Drops nodes whose outputs nobody reads, and initializers and value infos nobody refers to any more. */
export const removeUnused: Pass = {
  name: 'remove-unused',
  description: 'drops nodes and initializers that no output depends on',
  run(model) {
    const { graph } = model;
    const needed = new Set(graph.outputs.map(({ name }) => name));
    const kept = [];
    for (const node of graph.nodes.toReversed()) {
      if (!node.outputs.some((name) => needed.has(name))) continue;
      kept.push(node);
      for (const name of valuesRead(node)) needed.add(name);
    }
    kept.reverse();
    const before = sizes(graph);
    const made = new Set(kept.flatMap(({ outputs }) => outputs));
    graph.nodes = kept;
    // An input with a default goes together with it: left alone it would become mandatory.
    graph.inputs = graph.inputs.filter(({ name }) => needed.has(name) || !graph.initializers.has(name));
    graph.initializers = new Map([...graph.initializers].filter(([name]) => needed.has(name)));
    graph.valueInfo = graph.valueInfo.filter(({ name }) => made.has(name) || graph.initializers.has(name));
    const dropped = Object.entries(sizes(graph)).flatMap(
      ([what, size]) => counted((before[what] ?? 0) - size, what) ?? [],
    );
    return dropped.length > 0 ? `dropped ${dropped.join(', ')}` : undefined;
  },
};

function sizes({ nodes, initializers, inputs, valueInfo }: Graph): Record<string, number> {
  return { node: nodes.length, initializer: initializers.size, input: inputs.length, 'value info': valueInfo.length };
}
