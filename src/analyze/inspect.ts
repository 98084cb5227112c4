import type { Graph, Value } from '../ir/graph.js';
import { findLinears, type Linear } from './linears.js';
import { roleFamily } from './roles.js';
import { blockCount } from './select.js';

/** Linears of one kind: a role with its block number left out. */
export interface RoleRow {
  readonly role: string;
  readonly count: number;
  readonly parameters: number;
  readonly bytes: number;
  /** Where the roles were read. */
  readonly evidence: string;
}

export interface GraphSummary {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly nodes: number;
  readonly opset: number;
  readonly blocks: number;
  readonly roles: readonly RoleRow[];
  /** Bytes and parameters of all initializers. */
  readonly parameters: number;
  readonly bytes: number;
}

/** What a graph is made of. Reads no weights. */
export function summarize(graph: Graph, opset: number): GraphSummary {
  const linears = findLinears(graph);
  return {
    inputs: graph.inputs,
    outputs: graph.outputs,
    nodes: graph.nodes.length,
    opset,
    blocks: blockCount(linears),
    roles: roleRows(linears),
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
    evidence: [...new Set(members.map(({ evidence }) => evidence))].join(', '),
  }));
}
