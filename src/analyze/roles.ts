import type { Node } from '../ir/graph.js';

/** What a linear does in a WanTransformer3DModel, or `linear` where nothing says so. */
export type Role = string;

/** A role and where it was read. */
export interface RoleEvidence {
  readonly role: Role;
  readonly evidence: string;
}

export const UNKNOWN_ROLE = 'linear';

/** Names of diffusers' class on the left, of the original Wan repository on the right of each pair. */
const PATTERNS: readonly (readonly [pattern: RegExp, role: (match: RegExpMatchArray) => Role])[] = [
  [
    /blocks\.(\d+)\.(attn[12])\.to_([qkv])(?![a-z0-9_])/,
    ([, n, attention, part]) => `blocks.${n}.${attention}.${part}`,
  ],
  [/blocks\.(\d+)\.(attn[12])\.to_out(?![a-z_])/, ([, n, attention]) => `blocks.${n}.${attention}.out`],
  [/blocks\.(\d+)\.ffn\.net\.0\.proj(?![a-z_])/, ([, n]) => `blocks.${n}.ffn.up`],
  [/blocks\.(\d+)\.ffn\.net\.2(?![a-z_0-9])/, ([, n]) => `blocks.${n}.ffn.down`],
  [
    /blocks\.(\d+)\.(self|cross)_attn\.([qkvo])(?![a-z0-9_])/,
    ([, n, kind, part]) => `blocks.${n}.${kind === 'self' ? 'attn1' : 'attn2'}.${part === 'o' ? 'out' : part}`,
  ],
  [/blocks\.(\d+)\.ffn\.0(?![a-z_0-9])/, ([, n]) => `blocks.${n}.ffn.up`],
  [/blocks\.(\d+)\.ffn\.2(?![a-z_0-9])/, ([, n]) => `blocks.${n}.ffn.down`],
  [/time_embedder\.linear_([12])/, ([, n]) => `time_embedder.${n}`],
  [/text_embedder\.linear_([12])/, ([, n]) => `text_embedder.${n}`],
  [/(time|text)_embedding\.([02])(?![a-z_0-9])/, ([, kind, n]) => `${kind}_embedder.${n === '0' ? 1 : 2}`],
  [/time_proj(?:ection\.1)?(?![a-z_])/, () => 'time_proj'],
  [/patch_embedding/, () => 'patch_embedding'],
  [/(?:^|[^a-z_])(?:proj_out|head\.head)(?![a-z_])/, () => 'proj_out'],
];

/** Metadata that torch's exporters leave on a node: the module path it came from. */
const SCOPE_KEYS = ['pkg.torch.onnx.name_scopes', 'namespace'];

/**
 * The role of a linear from the names around it: its weight, the module scopes in the node's metadata, its bias, the node's own name.
 *
 * @param weightName initializer that holds the weight
 * @param biasName initializer added to the result, if any
 */
export function roleOf(node: Node, weightName: string, biasName: string | undefined): RoleEvidence {
  const sources: [string, string | undefined][] = [
    ['weight name', weightName],
    ...SCOPE_KEYS.map((key): [string, string | undefined] => ['module scope', node.metadata.get(key)]),
    ['bias name', biasName],
    ['node name', node.name],
  ];
  for (const [source, text] of sources) {
    const role = text === undefined ? undefined : matchRole(text);
    if (role !== undefined) return { role, evidence: source };
  }
  return { role: UNKNOWN_ROLE, evidence: 'no name matched' };
}

function matchRole(text: string): Role | undefined {
  // Scope paths come as /blocks.0/attn1/to_q/MatMul or blocks.0/attn1.to_q too.
  const dotted = text.replaceAll('/', '.');
  for (const [pattern, role] of PATTERNS) {
    const match = dotted.match(pattern);
    if (match) return role(match);
  }
  return undefined;
}

/** @returns the role with its block number left open: `blocks.*.ffn.up` */
export function roleFamily(role: Role): Role {
  return role.replace(/^blocks\.\d+\./, 'blocks.*.');
}

/** @returns N of a role `blocks.N....`, or undefined outside the blocks. */
export function blockOf(role: Role): number | undefined {
  const match = role.match(/^blocks\.(\d+)\./);
  return match ? Number(match[1]) : undefined;
}
