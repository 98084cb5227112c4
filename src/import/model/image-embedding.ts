import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';
import { feedForward, layerNorm } from '../layers.js';

/** torch's default, which diffusers leaves as it is here whatever the configuration says of the blocks. */
const EPS = 1e-5;

/**
 * Brings features of an image encoder to the width of the tokens. With a position embedding, the images of a first and a last frame come
 * one after the other along the batch and are joined to one sequence.
 *
 * Source: diffusers' WanImageEmbedding.
 * @param image `[batch, image_tokens, imageDim]`; with positions `[images, image_tokens, imageDim]`
 */
export function imageEmbedding(scope: Scope, image: Operand, { imageDim, imagePositions, width }: WanConfig): Operand {
  const features = imageDim as number;
  let x = image;
  if (imagePositions !== null) {
    const joined = scope.reshape(image, [-1, imagePositions, features], 'batch');
    x = scope.add(joined, scope.weight('pos_embed', [1, imagePositions, features]));
  }
  const inner = feedForward(scope.in('ff'), layerNorm(scope.in('norm1'), x, EPS, true), features, width, 'none');
  return layerNorm(scope.in('norm2'), inner, EPS, true);
}
