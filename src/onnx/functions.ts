import { printable, WanqError } from '../errors.js';
import type { FunctionDefinition, Model, Node } from '../ir/graph.js';
import { subgraphs } from '../ir/traverse.js';
import { MAX_FUNCTION_DEPTH, MAX_NODES } from '../limits.js';

/** What a call of a function puts in its place. */
interface Expanded {
  readonly nodes: number;
  readonly depth: number;
}

/**
 * Refuses functions that call themselves, or one another too deep or too often: onnxruntime puts them in the place of their calls, and 30 that call
 * the next one twice are a billion nodes.
 *
 * @throws WanqError MODEL_INVALID
 */
export function refuseEndlessFunctions({ graph, functions }: Model): void {
  if (functions.length === 0) return;
  const all = new Map(functions.map((each) => [keyOf(each.domain, each.name, each.overload), each]));
  const known = new Map<FunctionDefinition, Expanded>();
  const open: FunctionDefinition[] = [];

  const expandedNodes = (nodes: readonly Node[]): Expanded => {
    let [count, depth] = [0, 0];
    for (const node of nodes) {
      const called = all.get(keyOf(node.domain, node.opType, node.overload));
      const parts = subgraphs(node).map((inner) => expandedNodes(inner.nodes));
      if (called) parts.push(expanded(called));
      for (const part of parts) {
        count += part.nodes;
        depth = Math.max(depth, part.depth);
      }
      count++;
    }
    if (count > MAX_NODES) {
      throw new WanqError('MODEL_INVALID', `the model's functions make more than ${MAX_NODES} nodes`);
    }
    return { nodes: count, depth };
  };
  const expanded = (definition: FunctionDefinition): Expanded => {
    const before = known.get(definition);
    if (before) return before;
    if (open.includes(definition)) {
      throw new WanqError('MODEL_INVALID', `function "${printable(definition.name)}" calls itself`);
    }
    open.push(definition);
    const { nodes, depth } = open.length > MAX_FUNCTION_DEPTH ? tooDeep() : expandedNodes(definition.nodes);
    open.pop();
    if (depth >= MAX_FUNCTION_DEPTH) tooDeep();
    const made = { nodes, depth: depth + 1 };
    known.set(definition, made);
    return made;
  };

  for (const definition of all.values()) expanded(definition);
  expandedNodes(graph.nodes);
}

function tooDeep(): never {
  throw new WanqError('MODEL_INVALID', `functions call one another more than ${MAX_FUNCTION_DEPTH} deep`);
}

function keyOf(domain: string, name: string, overload: string): string {
  return [domain, name, overload].join('\0');
}
