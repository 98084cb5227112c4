import type { Node } from '../ir/graph.js';

/** What a linear does in a WanTransformer3DModel, or `linear` where nothing says so. */
export type Role = string;

/** How sure a role is: `high` where a name or a complete structure tells it, `low` where it is little more than a guess. */
export type Confidence = 'high' | 'medium' | 'low';

/** A role and where it was read. */
export interface RoleEvidence {
  readonly role: Role;
  readonly evidence: string;
  readonly confidence: Confidence;
}

export const UNKNOWN_ROLE = 'linear';

/** What the evidence of a name is called; everything else is a sentence about the structure of the graph. */
export const NAME_EVIDENCE = ['weight name', 'module scope', 'bias name', 'node name'] as const;

/** Other models have transformer_blocks and the like. */
const BLOCK = String.raw`(?<![a-zA-Z0-9_])blocks\.(\d+)\.`;

/** No further letter: to_q and not to_query, net.2 and not net.20. */
const END = '(?![a-z0-9_])';

const ORIGINAL_ATTENTION: Readonly<Record<string, string>> = { self: 'attn1', cross: 'attn2' };

/** Of diffusers' class first, of the original Wan repository behind it. */
const PATTERNS: readonly (readonly [pattern: RegExp, role: (match: RegExpMatchArray) => Role])[] = [
  [
    new RegExp(`${BLOCK}(attn[12])\\.to_(q|k|v|qkv|kv)${END}`),
    ([, n, attention, part]) => `blocks.${n}.${attention}.${part}`,
  ],
  [new RegExp(`${BLOCK}attn2\\.add_([kv])_proj${END}`), ([, n, part]) => `blocks.${n}.attn2.add_${part}`],
  [new RegExp(`${BLOCK}(attn[12])\\.to_out(?![a-z_])`), ([, n, attention]) => `blocks.${n}.${attention}.out`],
  [new RegExp(`${BLOCK}ffn\\.net\\.0\\.proj(?![a-z_])`), ([, n]) => `blocks.${n}.ffn.up`],
  [new RegExp(`${BLOCK}ffn\\.net\\.2${END}`), ([, n]) => `blocks.${n}.ffn.down`],
  [
    new RegExp(`${BLOCK}(self|cross)_attn\\.([qkvo])${END}`),
    ([, n, kind, part]) => `blocks.${n}.${ORIGINAL_ATTENTION[kind as string]}.${part === 'o' ? 'out' : part}`,
  ],
  [new RegExp(`${BLOCK}cross_attn\\.([kv])_img${END}`), ([, n, part]) => `blocks.${n}.attn2.add_${part}`],
  [new RegExp(`${BLOCK}ffn\\.0${END}`), ([, n]) => `blocks.${n}.ffn.up`],
  [new RegExp(`${BLOCK}ffn\\.2${END}`), ([, n]) => `blocks.${n}.ffn.down`],
  [/time_embedder\.linear_([12])/, ([, n]) => `time_embedder.${n}`],
  [/text_embedder\.linear_([12])/, ([, n]) => `text_embedder.${n}`],
  [/image_embedder\.ff\.net\.(0\.proj|2)(?![a-z_0-9])/, ([, n]) => `image_embedder.${n === '2' ? 2 : 1}`],
  [/(time|text)_embedding\.([02])(?![a-z_0-9])/, ([, kind, n]) => `${kind}_embedder.${n === '0' ? 1 : 2}`],
  [/time_proj(?:ection\.1)?(?![a-z_])/, () => 'time_proj'],
  [/patch_embedding/, () => 'patch_embedding'],
  [/(?:^|[^a-z_])(?:proj_out|head\.head)(?![a-z_])/, () => 'proj_out'],
];

/** Metadata that torch's exporters leave on a node: the module path it came from. */
export const SCOPE_KEYS = ['pkg.torch.onnx.name_scopes', 'namespace'];

/**
 * The role of a linear from the names around it: its weight, the module scopes in the node's metadata, its bias, the node's own name.
 *
 * @param weightName initializer that holds the weight
 * @param biasNames initializers added to the result
 */
export function roleOf(node: Node, weightName: string, biasNames: readonly string[]): RoleEvidence {
  const sources: [(typeof NAME_EVIDENCE)[number], string | undefined][] = [
    ['weight name', weightName],
    ...SCOPE_KEYS.map((key): ['module scope', string | undefined] => ['module scope', node.metadata.get(key)]),
    ...biasNames.map((name): ['bias name', string] => ['bias name', name]),
    ['node name', node.name],
  ];
  for (const [source, text] of sources) {
    const role = text === undefined ? undefined : matchRole(text);
    if (role !== undefined) return { role, evidence: source, confidence: 'high' };
  }
  return { role: UNKNOWN_ROLE, evidence: 'neither a name nor the structure tells', confidence: 'low' };
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
