import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { NAME_EVIDENCE } from '../../../src/analyze/roles.js';
import { structuralInputs, structuralRoles } from '../../../src/analyze/structure.js';
import type { Graph, Node } from '../../../src/ir/graph.js';
import { subgraphs } from '../../../src/ir/traverse.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { FULL_SHAPE, MICRO_COMPONENTS, MICRO_PIPELINE, ROOT } from '../../helpers/fixtures.js';
import { reorder, wipe } from '../helpers/wipe.js';

const VARIANTS = path.join(ROOT, 'fixtures', 'variants');

function load(file: string): Graph {
  const bytes = readFileSync(file);
  return decodeModel(file.endsWith('.gz') ? gunzipSync(bytes) : bytes).graph;
}

const micro = (): Graph => load(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
const fullShape = (name: string): Graph => load(path.join(FULL_SHAPE, name, 'model.onnx.gz'));
const variant = (name: string): Graph => load(path.join(VARIANTS, name, 'model.onnx.gz'));

function rolesByName(graph: Graph): Map<Node, string> {
  const linears = findLinears(graph);
  expect(linears.every(({ evidence }) => (NAME_EVIDENCE as readonly string[]).includes(evidence))).toBe(true);
  return new Map(linears.map(({ node, role }) => [node, role]));
}

function rolesByStructure(graph: Graph): Map<Node, string> {
  return new Map([...structuralRoles(graph, findLinears(graph))].map(([node, { role }]) => [node, role]));
}

function confidences(graph: Graph): Set<string> {
  return new Set([...structuralRoles(graph, findLinears(graph)).values()].map(({ confidence }) => confidence));
}

/** Roles that structure gives a wiped graph, by the nodes it was made of. */
function rolesOfWiped(graph: Graph, seed: number): Map<Node, string> {
  const { graph: wiped, origins } = wipe(graph, seed);
  return new Map([...rolesByStructure(wiped)].map(([node, role]) => [origins.get(node) as Node, role]));
}

describe.each<[string, () => Graph]>([
  ['the micro transformer', micro],
  ['two blocks at full width', () => fullShape('2-blocks-fp32')],
  ['the 5B in float32', () => fullShape('5b-fp32')],
  ['the 5B in float16', () => fullShape('5b-fp16')],
])('structuralRoles of %s', (_, make) => {
  const graph = make();
  const named = rolesByName(graph);

  it('are those that the names tell, when the names are gone', () => {
    expect(rolesOfWiped(graph, 1)).toEqual(named);
  });

  it('are certain', () => {
    expect(confidences(graph)).toEqual(new Set(['high']));
  });

  it('do not depend on the order of the nodes', () => {
    for (const seed of [2, 3]) expect(rolesByStructure(reorder(graph, seed))).toEqual(named);
  });
});

describe.each(['micro', ...readdirSync(FULL_SHAPE).filter((name) => !name.includes('.'))])(
  'structuralInputs of %s',
  (name) => {
    const graph = name === 'micro' ? micro() : fullShape(name);
    const [latents, timestep, text] = graph.inputs;

    it('are told by rank', () => {
      expect(structuralInputs(graph)).toEqual({ latents, timestep, text });
    });

    it.each([true, false])('are told without names, with ranks: %s', (ranks) => {
      const { graph: wiped, origins } = wipe(graph, 4, { ranks });
      // Which wiped input was which is known by a node that reads it.
      const was = (value: string | undefined): string | undefined => {
        const [node, origin] = [...origins].find(([{ inputs }]) => inputs.includes(value ?? '')) ?? [];
        return origin?.inputs[node?.inputs.indexOf(value ?? '') ?? -1];
      };
      const inputs = structuralInputs(wiped);
      expect([inputs.latents, inputs.timestep, inputs.text].map((value) => was(value?.name))).toEqual([
        'hidden_states',
        'timestep',
        'encoder_hidden_states',
      ]);
    });
  },
);

describe('structuralRoles of a graph that is no Wan transformer', () => {
  it.each(MICRO_COMPONENTS.filter((name) => name !== 'transformer'))('are none: %s', (component) => {
    const graph = load(path.join(MICRO_PIPELINE, component, 'model.onnx'));
    expect(findLinears(graph).length).toBeGreaterThan(10);
    expect(rolesByStructure(graph)).toEqual(new Map());
  });
});

/** Exports of one model, and how many of its 27 linears are not in the main graph. */
const ELSEWHERE: Readonly<Record<string, number>> = {
  // Self-attention's q, k and v are inputs of com.microsoft.Attention.
  'contrib-attention': 6,
  // In model-local functions.
  functions: 20,
  // In the branches of an If.
  'subgraph-linear': 1,
};

/** Graphs of other architectures or without the linears that tell a Wan transformer, with the reason. */
const WITHOUT_ROLES: Readonly<Record<string, string>> = {
  'not-wan': 'another architecture',
  quantized: 'weights come of DequantizeLinear nodes',
};

const names = readdirSync(VARIANTS).filter((name) => existsSync(path.join(VARIANTS, name, 'model.onnx.gz')));

describe('structuralRoles of other exports of one model', () => {
  const reference = variant('dynamo');
  const named = rolesByName(reference);
  const expected = findLinears(reference).map(
    ({ node, inFeatures, outFeatures }) => `${named.get(node)} ${inFeatures}x${outFeatures}`,
  );

  const missing = (graph: Graph): string[] => {
    const roles = rolesByStructure(graph);
    const left = [...expected];
    for (const { node, inFeatures, outFeatures } of findLinears(graph)) {
      const role = roles.get(node) ?? 'none';
      const [, unit, operands] = role.match(/^(.*attn[12])\.([qkv]{2,})$/) ?? [];
      const each = operands ? [...operands].map((name) => `${unit}.${name}`) : [role];
      for (const one of each) {
        const entry = `${one} ${inFeatures}x${outFeatures / each.length}`;
        const at = left.indexOf(entry);
        expect(at, `${entry} is one too many`).toBeGreaterThanOrEqual(0);
        left.splice(at, 1);
      }
    }
    return left;
  };

  it.each(names.filter((name) => !(name in WITHOUT_ROLES)))('%s', (name) => {
    const graph = variant(name);
    expect(missing(graph)).toHaveLength(ELSEWHERE[name] ?? 0);
    if (graph.nodes.some((node) => subgraphs(node).length > 0)) return;
    expect(missing(wipe(reorder(graph, 5), 6).graph)).toHaveLength(ELSEWHERE[name] ?? 0);
  });

  it.each(names.filter((name) => name in WITHOUT_ROLES))('%s has none', (name) => {
    expect(rolesByStructure(variant(name))).toEqual(new Map());
  });
});
