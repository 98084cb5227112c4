import { type Attribute, ints } from '../../ir/attribute.js';
import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';

/** The token grid of a video, in the order frames, height, width. */
export const GRID = ['patch_frames', 'patch_height', 'patch_width'] as const;

export interface Patches {
  /** `[batch, tokens, width]` */
  readonly tokens: Operand;
  /** `[batch, width, patch_frames, patch_height, patch_width]`: the same before it was flattened, for its sizes. */
  readonly volume: Operand;
}

/** Cuts latents into patches and embeds each as a token. Source: diffusers' `patch_embedding`, a Conv3d that does not overlap. */
export function patchEmbedding(scope: Scope, latents: Operand, { patch, inChannels, width }: WanConfig): Patches {
  const inputs = [latents, scope.weight('weight', [width, inChannels, ...patch]), scope.weight('bias', [width])];
  const attributes: Attribute[] = [ints('kernel_shape', patch), ints('strides', patch)];
  const volume = scope.op('Conv', inputs, ['batch', width, ...GRID], attributes);
  return { tokens: scope.transpose(scope.reshape(volume, [0, 0, -1], 'tokens'), [0, 2, 1]), volume };
}
