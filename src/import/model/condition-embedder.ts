import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';
import { gelu, linear, silu } from '../layers.js';
import { imageEmbedding } from './image-embedding.js';

const MAX_PERIOD = 10_000;

/** Shift, scale and gate, for self attention and for the feed-forward layer. */
export const BLOCK_MODULATIONS = 6;

export interface Conditions {
  /** `[batch, width]`, or `[batch, tokens, width]` where every token has a timestep. */
  readonly time: Operand;
  /** As `time`, with an axis of {@link BLOCK_MODULATIONS} before the last. */
  readonly modulations: Operand;
  /** `[batch, text_length, width]` */
  readonly text: Operand;
  /** `[batch, image_tokens, width]`; undefined for a model that takes no image. */
  readonly image: Operand | undefined;
}

/**
 * Embeds what the video depends on.
 *
 * Source: diffusers' WanTimeTextImageEmbedding.
 * @param timestep `[batch]` or `[batch, tokens]`
 * @param text `[batch, text_length, textDim]`
 */
export function conditionEmbedder(
  scope: Scope,
  { timestep, text, image }: { timestep: Operand; text: Operand; image: Operand | undefined },
  config: WanConfig,
): Conditions {
  const { width } = config;
  const embedder = scope.in('time_embedder');
  const wave = sinusoid(scope.in('timesteps_proj'), timestep, config.freqDim);
  const time = linear(embedder.in('linear_2'), silu(embedder, linear(embedder.in('linear_1'), wave, width)), width);
  const projected = linear(scope.in('time_proj'), silu(scope, time), BLOCK_MODULATIONS * width);
  const kept = timestep.dims.map(() => 0);
  const textEmbedder = scope.in('text_embedder');
  const inner = gelu(textEmbedder, linear(textEmbedder.in('linear_1'), text, width), 'tanh');
  return {
    time,
    modulations: scope.reshape(projected, [...kept, BLOCK_MODULATIONS, width]),
    text: linear(textEmbedder.in('linear_2'), inner, width),
    image: image && imageEmbedding(scope.in('image_embedder'), image, config),
  };
}

/** Cosines, then sines, of a timestep at geometrically falling frequencies. Source: diffusers' Timesteps with flip_sin_to_cos. */
function sinusoid(scope: Scope, timestep: Operand, features: number): Operand {
  const frequencies = timeFrequencies(features / 2);
  const table = scope.table('frequencies', [frequencies.length], frequencies);
  const phase = scope.mul(scope.unsqueeze(timestep, -1), table);
  return scope.concat([scope.map('Cos', phase), scope.map('Sin', phase)], -1);
}

/** Rounded to float32 at every step, as torch does: timesteps go to 1,000, and multiply what these are off by. */
export function timeFrequencies(count: number): Float32Array {
  const slope = Math.fround(-Math.log(MAX_PERIOD));
  return Float32Array.from({ length: count }, (_, i) => Math.exp(Math.fround(Math.fround(slope * i) / count)));
}
