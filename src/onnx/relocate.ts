import type { Attribute } from '../ir/attribute.js';
import type { Graph, Model, Node } from '../ir/graph.js';
import { Tensor } from '../ir/tensor.js';
import { decodeModel, encodeModel, withDefaults } from './codec.js';

/**
 * Encodes a model whose data files go by other names. The model itself is left as it was.
 * @param names by location
 */
export function encodeRelocated(model: Model, names: ReadonlyMap<string, string>): Uint8Array {
  const copy = decodeModel(encodeModel(model));
  relocateGraph(copy.graph, names);
  copy.functions = copy.functions.map((definition) => {
    relocateNodes(definition.nodes, names);
    return withDefaults(definition, relocated(definition.defaults, names));
  });
  return encodeModel(copy);
}

function relocateGraph(graph: Graph, names: ReadonlyMap<string, string>): void {
  for (const tensor of graph.initializers.values()) graph.addInitializer(moved(tensor, names));
  relocateNodes(graph.nodes, names);
}

function relocateNodes(nodes: readonly Node[], names: ReadonlyMap<string, string>): void {
  for (const node of nodes) node.attributes = relocated(node.attributes, names);
}

/** Graphs in attributes are changed in place. */
function relocated(attributes: readonly Attribute[], names: ReadonlyMap<string, string>): Attribute[] {
  return attributes.map((attribute) => {
    if (attribute.type === 'graph') relocateGraph(attribute.value, names);
    if (attribute.type === 'graphs') for (const graph of attribute.value) relocateGraph(graph, names);
    if (attribute.type !== 'tensor') return attribute;
    const value = moved(attribute.value, names);
    return value === attribute.value ? attribute : { ...attribute, value };
  });
}

function moved(tensor: Tensor, names: ReadonlyMap<string, string>): Tensor {
  const { name, dtype, dims, data } = tensor;
  const location = data.kind === 'external' ? names.get(data.location) : undefined;
  if (data.kind !== 'external' || location === undefined) return tensor;
  return new Tensor(name, dtype, dims, { ...data, location });
}
