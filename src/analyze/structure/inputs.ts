import { isStorableFloat } from '../../ir/dtype.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import { type GraphIndex, indexGraph } from '../../ir/traverse.js';
import { dataInputs, NORMALIZATION } from './flow.js';

export interface StructuralInputs {
  readonly latents?: Value;
  readonly timestep?: Value;
  readonly text?: Value;
}

type Meaning = keyof StructuralInputs;

/** Whether a value can have a meaning by its rank and type, as far as the graph states them. */
export function fits(meaning: Meaning, { dims, dtype }: Value): boolean {
  if (meaning === 'timestep') return (dims === null || dims.length <= 2) && dtype !== 'bool' && dtype !== 'string';
  return (
    (dims === null || dims.length === (meaning === 'latents' ? 5 : 3)) && (dtype === null || isStorableFloat(dtype))
  );
}

/**
 * What a transformer's graph inputs mean, by rank: the latents have five axes, the text's features three, the timestep two at most. Where that leaves
 * several inputs or the ranks are not stated, by what is computed of them first.
 *
 * @returns an input for each meaning that exactly one fits
 */
export function structuralInputs(graph: Graph, index: GraphIndex = indexGraph(graph)): StructuralInputs {
  const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  const uses = new Map<Value, Meaning | undefined>();
  const use = (value: Value): Meaning | undefined => {
    if (!uses.has(value)) uses.set(value, firstUse(value.name, index));
    return uses.get(value);
  };
  const find = (meaning: Meaning): Value | undefined => {
    const possible = inputs.filter((value) => fits(meaning, value));
    if (possible.length === 1 && possible[0]?.dims) return possible[0];
    const used = possible.filter((value) => use(value) === meaning);
    return used.length === 1 ? used[0] : undefined;
  };
  const found: { [meaning in Meaning]?: Value } = {};
  for (const meaning of ['latents', 'timestep', 'text'] as const) {
    const value = find(meaning);
    if (value) found[meaning] = value;
  }
  return found;
}

const PRODUCT = /MatMul|^Gemm$/;

/** What the first products and waves of an input tell of it. */
function firstUse(input: string, index: GraphIndex): Meaning | undefined {
  const operators = new Set<string>();
  const seen = new Set<Node>();
  const queue = [input];
  for (const name of queue) {
    for (const { node } of index.consumers.get(name) ?? []) {
      if (seen.has(node) || !dataInputs(node).includes(name)) continue;
      seen.add(node);
      if (node.opType === 'Sin' || node.opType === 'Cos') return 'timestep';
      if (node.opType === 'Conv') return 'latents';
      operators.add(node.opType);
      if (!PRODUCT.test(node.opType)) queue.push(...node.outputs);
    }
  }
  // Patches are cut out of the latents by moving axes, which a text's features never need.
  if (operators.has('Transpose')) return 'latents';
  const some = (pattern: RegExp): boolean => [...operators].some((operator) => pattern.test(operator));
  return some(PRODUCT) && !some(NORMALIZATION) ? 'text' : undefined;
}
