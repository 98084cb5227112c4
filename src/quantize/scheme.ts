import type { Linear } from '../analyze/linears.js';
import { blockOf, UNKNOWN_ROLE } from '../analyze/roles.js';

export const SCHEMES = ['ffn', 'blocks'] as const;

/**
 * Which linears become INT8:
 * - `ffn`: the feed-forward linears of every block; attention and all embeddings stay as they are.
 * - `blocks`: every linear of every block.
 */
export type Scheme = (typeof SCHEMES)[number];

/** Whether a scheme quantizes a linear, and why. */
export interface SchemeDecision {
  readonly quantize: boolean;
  readonly reason: string;
}

const ALWAYS_KEPT: readonly [RegExp, string][] = [
  [/^patch_embedding$/, 'patch embedding: everything downstream inherits its error'],
  [/^time_/, 'timestep embedding: it modulates every activation of every block'],
  [/^(text|image)_embedder/, 'condition embedder: small, and every cross attention reads it'],
  [/^proj_out$/, 'output projection: its error goes straight into the latents'],
];

/** @param knownModel whether other linears of the graph have roles in blocks: then one without a role is an exception, not the rule */
export function decide(scheme: Scheme, { role, kind }: Linear, knownModel = false): SchemeDecision {
  const kept = ALWAYS_KEPT.find(([pattern]) => pattern.test(role));
  if (kept) return { quantize: false, reason: kept[1] };
  if (kind === 'Conv') return { quantize: false, reason: 'convolution outside the blocks' };
  if (role === UNKNOWN_ROLE && knownModel) return { quantize: false, reason: 'role not recognised' };
  if (role === UNKNOWN_ROLE) return { quantize: true, reason: 'linear of a graph that is not a known Wan transformer' };
  if (blockOf(role) === undefined) return { quantize: false, reason: 'outside the blocks' };
  if (scheme === 'blocks') return { quantize: true, reason: 'scheme blocks: every linear of a block' };
  return role.includes('.ffn.')
    ? { quantize: true, reason: 'scheme ffn: feed-forward linear' }
    : { quantize: false, reason: 'scheme ffn: attention keeps its precision' };
}
