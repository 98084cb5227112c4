import type { Graph, Node } from '../ir/graph.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import type { RoleEvidence } from './roles.js';
import { findAttentions } from './structure/attention.js';
import { attendsToBoth, type Blocks, groupBlocks } from './structure/blocks.js';
import { type Embedders, findEmbedders } from './structure/embedders.js';
import { fits } from './structure/inputs.js';
import { Survey, type UnnamedLinear } from './structure/survey.js';
import { attentionUnits, feedForwardUnits, isCross } from './structure/units.js';

export { type StructuralInputs, structuralInputs } from './structure/inputs.js';
export type { UnnamedLinear } from './structure/survey.js';

/**
 * A role that the structure of the graph gives a linear, with what tells it as a sentence. The confidence is
 * - `high`: all blocks are complete and alike and follow each other, so that nothing of the role is guessed.
 * - `medium`: parts of blocks are missing or differ, or an expected operator was not recognised; the block's number may be wrong.
 * - `low`: only the order of the nodes decides between blocks.
 */
export type StructuralRole = RoleEvidence;

/** Linears, attentions and inputs, sets of which are kept for every value. Wan2.2 A14B has 490. */
const MAX_SOURCES = 2048;

/**
 * What the linears of a Wan transformer do, from the graph's structure alone: no name is read. Attentions are found by their softmax or fused
 * operator; what reaches their operands and results without passing another linear is q, k, v and out; blocks are groups of self-attention,
 * cross attention and feed-forward along the residual stream.
 *
 * @param linears of the graph's own nodes, in node order
 * @returns roles of the linears that have one; empty where the graph has no latents, time path or cross attention of a Wan transformer
 */
export function structuralRoles(
  graph: Graph,
  linears: readonly UnnamedLinear[],
  index: GraphIndex = indexGraph(graph),
): ReadonlyMap<Node, StructuralRole> {
  const none = new Map<Node, StructuralRole>();
  const nodes = new Set(linears.map(({ node }) => node));
  const attentions = findAttentions(graph, index, (node) => nodes.has(node));
  const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  if (linears.length + attentions.length + inputs.length > MAX_SOURCES) return none;
  const survey = new Survey(graph, index, linears, attentions);
  const text = attentions
    .filter((attention) => isCross(attention, survey))
    .reduce((bits, { key }) => bits | survey.of(key).inputs, 0n);
  const embedders = findEmbedders(survey, text);
  if (!embedders || !inputsFit(survey, embedders, text)) return none;
  const latents = survey.of(embedders.patch.activation).inputs;
  const found = groupBlocks([...attentionUnits(survey, latents), ...feedForwardUnits(survey, latents)], survey);
  if (!found.blocks.some(attendsToBoth)) return none;
  return assign(embedderRoles(embedders), [...blockRoles(found), ...outputRole(survey, embedders, found)]);
}

/** Whether the ranks of the graph inputs, where they are stated, allow what was made of them, and the patches are three-dimensional. */
function inputsFit(survey: Survey, { patch, time }: Embedders, text: bigint): boolean {
  const of = (meaning: 'latents' | 'timestep' | 'text', bits: bigint): boolean =>
    survey.inputsOf(bits).every((value) => fits(meaning, value));
  return (
    of('latents', survey.of(patch.activation).inputs) &&
    of('timestep', survey.of(time[0].activation).inputs) &&
    of('text', text) &&
    (patch.kind !== 'Conv' || patch.weight.dims.length === 5)
  );
}

/**
 * A linear of the blocks with two roles makes several operands at once, and has neither. One of the embedders that seems to have another stands
 * before a product that is not among the linears.
 */
function assign(embedders: readonly Found[], others: readonly Found[]): Map<Node, StructuralRole> {
  const roles = new Map(embedders);
  const times = new Map<Node, number>();
  for (const [node] of others) times.set(node, (times.get(node) ?? 0) + 1);
  for (const [node, role] of others) if (times.get(node) === 1 && !roles.has(node)) roles.set(node, role);
  return roles;
}

type Found = [Node, StructuralRole];

function found(linear: UnnamedLinear | undefined, role: string, evidence: string): Found[] {
  return linear ? [[linear.node, { role, evidence, confidence: 'high' }]] : [];
}

function embedderRoles({ patch, time: [first, second, projection], text, image }: Embedders): Found[] {
  const condition = (name: string, linears: readonly UnnamedLinear[], what: string): Found[] =>
    linears.flatMap((linear, i) =>
      found(
        linear,
        `${name}.${i + 1}`,
        `${i === 0 ? 'first' : 'second'} of two linears between ${what} and cross attention`,
      ),
    );
  return [
    ...found(patch, 'patch_embedding', 'it alone reads the latents'),
    ...found(first, 'time_embedder.1', 'first of three linears in a row that depend on the timestep alone'),
    ...found(second, 'time_embedder.2', 'second of three linears in a row that depend on the timestep alone'),
    ...found(
      projection,
      'time_proj',
      'last of three linears that depend on the timestep alone, six times as wide as the others',
    ),
    ...condition('text_embedder', text, 'the text input'),
    ...condition('image_embedder', image, 'a normalized input'),
  ];
}

const PLACES = ['first', 'second', 'third'];

function blockRoles({ blocks, chained, alike }: Blocks): Found[] {
  const confidence = chained ? (alike ? 'high' : 'medium') : 'low';
  return blocks.flatMap((block, n) =>
    block.flatMap(({ kind, parts }, place) =>
      parts.map(({ name, linear, evidence, sure }): Found => {
        const where = `${PLACES[place]} of ${block.length} groups in block ${n} of ${blocks.length}`;
        const role = `blocks.${n}.${kind}.${name}`;
        return [
          linear.node,
          {
            role,
            evidence: `${evidence}; ${where}`,
            confidence: !sure && confidence === 'high' ? 'medium' : confidence,
          },
        ];
      }),
    ),
  );
}

/** The linear that alone makes the graph's output out of what the last block wrote. */
function outputRole(survey: Survey, { time }: Embedders, { blocks }: Blocks): Found[] {
  const linear = survey.makerOf(survey.graph.outputs[0]?.name ?? '');
  const last = blocks.at(-1)?.at(-1);
  if (!linear || !last) return [];
  const { near } = survey.of(linear.activation);
  const modulated = (near & survey.bitOf(time[1].node)) !== 0n;
  return modulated && (near & last.exit) === last.exit
    ? found(linear, 'proj_out', 'it alone makes the output, of the last block and the time embedding')
    : [];
}
