import type { Graph, Value } from '../ir/graph.js';
import { findProducts, type LeftoverCount } from './leftovers.js';
import type { Linear } from './linears.js';
import { type Confidence, NAME_EVIDENCE, type Role, roleFamily, UNKNOWN_ROLE } from './roles.js';
import { blockCount } from './select.js';
import { structuralRoles } from './structure.js';

/** Linears of one kind: a role with its block number left out. */
export interface RoleRow {
  readonly role: string;
  readonly count: number;
  readonly parameters: number;
  readonly bytes: number;
  /** Where the roles were read. */
  readonly evidence: string;
  /** The least of its linears'. */
  readonly confidence: Confidence;
}

/** One linear, and what tells its role. */
export interface LinearRow {
  readonly role: Role;
  readonly confidence: Confidence;
  readonly evidence: string;
  readonly node: string;
  readonly kind: Linear['kind'];
  readonly weight: string;
  /** [in, out] features. */
  readonly shape: readonly [number, number];
  /** Type the weight is stored in, and the one the product computes in. */
  readonly stored: string;
  readonly computed: string | null;
  /** Operators between the stored weight and the product. */
  readonly chain: readonly string[];
  /** What the structure of the graph makes of it, whatever its names say; null where it tells nothing. */
  readonly structure: Role | null;
}

export interface GraphSummary {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly nodes: number;
  readonly opset: number;
  readonly blocks: number;
  readonly roles: readonly RoleRow[];
  /** Operators with weights that are no linears: they stay as they are. */
  readonly leftovers: readonly LeftoverCount[];
  /** Bytes and parameters of all initializers. */
  readonly parameters: number;
  readonly bytes: number;
}

/** What a graph is made of. Reads no weights. */
export function summarize(graph: Graph, opset: number, { linears, leftovers } = findProducts(graph)): GraphSummary {
  return {
    inputs: graph.inputs,
    outputs: graph.outputs,
    nodes: graph.nodes.length,
    opset,
    blocks: blockCount(linears),
    roles: roleRows(linears),
    leftovers,
    parameters: [...graph.initializers.values()].reduce((total, { elements }) => total + elements, 0),
    bytes: graph.weightBytes,
  };
}

function roleRows(linears: readonly Linear[]): RoleRow[] {
  const groups = new Map<string, Linear[]>();
  for (const linear of linears) {
    const role = roleFamily(linear.role);
    const group = groups.get(role);
    if (group) group.push(linear);
    else groups.set(role, [linear]);
  }
  return [...groups].map(([role, members]) => ({
    role,
    count: members.length,
    parameters: members.reduce((total, { weight }) => total + weight.elements, 0),
    bytes: members.reduce((total, { weight }) => total + weight.byteLength, 0),
    evidence: evidenceOf(members),
    confidence: leastOf(members),
  }));
}

/** Sentences about the structure differ from linear to linear; the list of all linears has them. */
function evidenceOf(members: readonly Linear[]): string {
  const kinds = members.map(({ role, evidence }) => {
    if (NAME_EVIDENCE.some((name) => name === evidence)) return evidence;
    return role === UNKNOWN_ROLE ? 'nothing' : 'structure';
  });
  return [...new Set(kinds)].join(', ');
}

const CONFIDENCES: readonly Confidence[] = ['low', 'medium', 'high'];

function leastOf(members: readonly Linear[]): Confidence {
  return CONFIDENCES.find((level) => members.some(({ confidence }) => confidence === level)) ?? 'high';
}

/** Every linear with what tells its role, and what the structure says beside its names. */
export function linearRows(graph: Graph, linears: readonly Linear[]): LinearRow[] {
  const structural = structuralRoles(graph, linears);
  return linears.map(
    ({ node, role, confidence, evidence, kind, weight, inFeatures, outFeatures, computeType, chain }) => ({
      role,
      confidence,
      evidence,
      node: node.name,
      kind,
      weight: weight.name,
      shape: [inFeatures, outFeatures],
      stored: weight.dtype,
      computed: computeType ?? null,
      chain,
      structure: structural.get(node)?.role ?? null,
    }),
  );
}
