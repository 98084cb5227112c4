import { printable, WanqError } from '../errors.js';
import type { Attribute } from '../ir/attribute.js';
import { type FunctionDefinition, Graph, isDefaultDomain, type Model, Node, type Value } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { subgraphs } from '../ir/traverse.js';
import { MAX_GRAPH_DEPTH, MAX_NODES } from '../limits.js';
import { counted, type Pass } from './pass.js';

/** Products a function may hide. */
const PRODUCTS = new Set(['MatMul', 'Gemm', 'FusedMatMul', 'Conv']);

/**
 * Puts the nodes of model-local functions in the place of the nodes that call them, so that the linears inside can be seen and rewritten.
 * Functions without a matrix product stay as they are.
 *
 * Source: ONNX IR specification, FunctionProto.
 */
export const inlineFunctions: Pass = {
  name: 'inline-functions',
  description: 'puts functions that hold matrix products in the place of their calls',
  run(model) {
    const inlined = productFunctions(model);
    if (inlined.size === 0) return undefined;
    const gone = new Set(inlined.values());
    for (const { opsets } of gone) {
      const known = new Set(model.opsets.map(domainOf));
      model.opsets = [...model.opsets, ...opsets.filter((opset) => !known.has(domainOf(opset)))];
    }
    const inliner = new Inliner(model, inlined);
    model.graph.nodes = inliner.expand(model.graph.nodes, 0);
    model.functions = model.functions.filter((definition) => !gone.has(definition));
    return `inlined ${counted(inliner.calls, 'call')} of ${counted(inlined.size, 'function')}`;
  },
};

function keyOf(domain: string, name: string, overload: string): string {
  return [domain, name, overload].join('\0');
}

/** Functions with a matrix product in them or in a function they call. */
function productFunctions({ functions }: Model): Map<string, FunctionDefinition> {
  const all = new Map(functions.map((each) => [keyOf(each.domain, each.name, each.overload), each]));
  const found = new Map<string, FunctionDefinition>();
  const holds = (nodes: readonly Node[]): boolean =>
    nodes.some(
      (node) =>
        (PRODUCTS.has(node.opType) && !all.has(callKey(node))) ||
        found.has(callKey(node)) ||
        subgraphs(node).some((graph) => holds(graph.nodes)),
    );
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const [key, definition] of all) if (!found.has(key) && holds(definition.nodes)) found.set(key, definition);
  }
  return found;
}

function callKey({ domain, opType, overload }: Node): string {
  return keyOf(domain, opType, overload);
}

/** ONNX's own operators go by two names. */
function domainOf({ domain }: { readonly domain: string }): string {
  return isDefaultDomain(domain) ? '' : domain;
}

/** With those of subgraphs. */
function countNodes(nodes: readonly Node[]): number {
  return nodes.reduce(
    (sum, node) => sum + 1 + subgraphs(node).reduce((inner, graph) => inner + countNodes(graph.nodes), 0),
    0,
  );
}

class Inliner {
  readonly #model: Model;
  readonly #functions: ReadonlyMap<string, FunctionDefinition>;
  readonly #names: NameAuthority;
  #made = 0;
  calls = 0;

  constructor(model: Model, functions: ReadonlyMap<string, FunctionDefinition>) {
    this.#model = model;
    this.#functions = functions;
    this.#names = new NameAuthority(model.graph);
  }

  /** @throws WanqError MODEL_INVALID where functions call themselves, or make more nodes than a graph may have */
  expand(nodes: readonly Node[], depth: number): Node[] {
    if (depth > MAX_GRAPH_DEPTH) {
      throw new WanqError('MODEL_INVALID', `functions call each other more than ${MAX_GRAPH_DEPTH} deep`);
    }
    return nodes.flatMap((node) => {
      node.attributes = node.attributes.map((attribute) =>
        withGraphs(attribute, (graph) => this.#inside(graph, depth)),
      );
      const definition = this.#functions.get(callKey(node));
      return definition ? this.expand(this.#call(node, definition), depth + 1) : [node];
    });
  }

  #inside(graph: Graph, depth: number): Graph {
    graph.nodes = this.expand(graph.nodes, depth + 1);
    return graph;
  }

  /** The nodes of a function with the names and attributes of one call. */
  #call(call: Node, definition: FunctionDefinition): Node[] {
    this.#checkOpsets(definition);
    this.calls++;
    this.#made += countNodes(definition.nodes);
    if (this.#made > MAX_NODES) {
      throw new WanqError('MODEL_INVALID', `the model's functions make more than ${MAX_NODES} nodes`);
    }
    const renamed = new Map<string, string>();
    definition.outputs.forEach((name, i) => {
      if (call.outputs[i]) renamed.set(name, call.outputs[i]);
    });
    definition.inputs.forEach((name, i) => {
      renamed.set(name, call.inputs[i] ?? '');
    });
    const prefix = call.name || call.outputs.find((name) => name !== '') || definition.name;
    const rename = (name: string): string => {
      if (name === '') return '';
      const known = renamed.get(name);
      if (known !== undefined) return known;
      const unique = this.#names.unique(`${prefix}/${name}`);
      renamed.set(name, unique);
      return unique;
    };
    const given = new Map(
      [...definition.defaults, ...call.attributes].map((attribute): [string, Attribute] => [attribute.name, attribute]),
    );
    // An output that is an input passed through, or another output too, has one name inside and two outside.
    const passed = definition.outputs.flatMap((name, i) => {
      const output = call.outputs[i];
      return output && output !== renamed.get(name)
        ? [
            new Node({
              opType: 'Identity',
              name: this.#names.unique(`${prefix}/Identity`),
              inputs: [rename(name)],
              outputs: [output],
            }),
          ]
        : [];
    });
    const body = definition.nodes.map((node) => copyNode(node, rename, given, prefix));
    for (const node of body) if (node.metadata.size === 0) node.metadata = new Map(call.metadata);
    return [...body, ...passed];
  }

  #checkOpsets({ name, opsets }: FunctionDefinition): void {
    for (const { domain, version } of opsets) {
      const own = this.#model.opsets.find((opset) => domainOf(opset) === domainOf({ domain }));
      const used = own?.version ?? version;
      if (used === version) continue;
      throw new WanqError(
        'MODEL_UNSUPPORTED',
        `function "${printable(name)}" is written in opset ${version}, and the model in opset ${used}`,
        { hint: 'export the model without functions (torch.onnx.export with optimize=True inlines them)' },
      );
    }
  }
}

type Rename = (name: string) => string;

function copyNode(node: Node, rename: Rename, given: ReadonlyMap<string, Attribute>, prefix: string): Node {
  return new Node({
    opType: node.opType,
    domain: node.domain,
    overload: node.overload,
    name: node.name === '' ? '' : `${prefix}/${node.name}`,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
    attributes: node.attributes.flatMap((attribute): Attribute[] => {
      if (attribute.type !== 'reference')
        return [withGraphs(attribute, (graph) => copyGraph(graph, rename, given, prefix))];
      const value = given.get(attribute.to);
      // What the call leaves out the inner node leaves out too.
      return value ? [{ ...value, name: attribute.name }] : [];
    }),
    metadata: new Map(node.metadata),
  });
}

function copyGraph(graph: Graph, rename: Rename, given: ReadonlyMap<string, Attribute>, prefix: string): Graph {
  const value = (each: Value): Value => ({ ...each, name: rename(each.name) });
  return new Graph({
    name: graph.name,
    nodes: graph.nodes.map((node) => copyNode(node, rename, given, prefix)),
    initializers: [...graph.initializers.values()].map((tensor) => tensor.renamed(rename(tensor.name))),
    inputs: graph.inputs.map(value),
    outputs: graph.outputs.map(value),
    valueInfo: graph.valueInfo.map(value),
  });
}

function withGraphs(attribute: Attribute, change: (graph: Graph) => Graph): Attribute {
  if (attribute.type === 'graph') {
    const value = change(attribute.value);
    return value === attribute.value ? attribute : { ...attribute, value };
  }
  if (attribute.type !== 'graphs') return attribute;
  const value = attribute.value.map(change);
  return value.every((graph, i) => graph === attribute.value[i]) ? attribute : { ...attribute, value };
}
