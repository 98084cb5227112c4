import { type StructuralInputs, structuralInputs } from '../analyze/structure.js';
import { printable, WanqError } from '../errors.js';
import type { Graph, Value } from '../ir/graph.js';

/** How to feed a transformer graph: its inputs by what they mean. */
export interface TransformerSignature {
  readonly latents: Value;
  readonly timestep: Value;
  readonly text: Value;
  readonly output: string;
}

const NAMES = {
  latents: ['hidden_states', 'sample', 'latents', 'x'],
  timestep: ['timestep', 'timesteps', 't'],
  text: ['encoder_hidden_states', 'context', 'prompt_embeds'],
} as const;

/**
 * By the names that diffusers, optimum and the original repository use; where one is missing, by the structure of the graph.
 * @throws WanqError MODEL_UNSUPPORTED naming the inputs the graph has
 */
export function transformerSignature(graph: Graph, where: string): TransformerSignature {
  let structural: StructuralInputs | undefined;
  const find = (role: keyof typeof NAMES): Value => {
    const names: readonly string[] = NAMES[role];
    const named = graph.inputs.find(({ name }) => names.includes(name));
    if (named) return named;
    structural ??= structuralInputs(graph);
    const value = structural[role];
    if (value) return value;
    const have = graph.inputs.map(({ name }) => printable(name, 40)).join(', ');
    throw new WanqError('MODEL_UNSUPPORTED', `${where} has no input for ${role}; it has ${have}`, {
      hint: `name it ${NAMES[role][0]}, as diffusers does`,
    });
  };
  const output = graph.outputs[0]?.name;
  if (output === undefined) throw new WanqError('MODEL_INVALID', `${where} has no output`);
  return { latents: find('latents'), timestep: find('timestep'), text: find('text'), output };
}

/** @returns a dimension where it is fixed to a number */
export function fixedDim(value: Value | undefined, axis: number): number | undefined {
  const dim = value?.dims?.[axis];
  return typeof dim === 'number' ? dim : undefined;
}
