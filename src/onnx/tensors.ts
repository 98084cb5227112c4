import type { Attribute } from '../ir/attribute.js';
import type { Graph, Model, Node } from '../ir/graph.js';
import type { Tensor } from '../ir/tensor.js';

/** Every tensor of a model: initializers and constants of its graph, of the graphs inside it, and of its functions. */
export function* tensorsOf({ graph, functions }: Model): Generator<Tensor> {
  yield* ofGraph(graph);
  for (const { defaults, nodes } of functions) {
    yield* ofAttributes(defaults);
    yield* ofNodes(nodes);
  }
}

function* ofGraph({ initializers, nodes }: Graph): Generator<Tensor> {
  yield* initializers.values();
  yield* ofNodes(nodes);
}

function* ofNodes(nodes: readonly Node[]): Generator<Tensor> {
  for (const { attributes } of nodes) if (attributes.length > 0) yield* ofAttributes(attributes);
}

function* ofAttributes(attributes: readonly Attribute[]): Generator<Tensor> {
  for (const attribute of attributes) {
    if (attribute.type === 'tensor') yield attribute.value;
    else if (attribute.type === 'graph') yield* ofGraph(attribute.value);
    else if (attribute.type === 'graphs') for (const graph of attribute.value) yield* ofGraph(graph);
  }
}
