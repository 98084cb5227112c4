import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';
import { linear, rmsNorm } from '../layers.js';
import { type Rotation, rotate } from './rotary.js';

const BY_HEAD = [0, 2, 1, 3];
/** Keys of a head as columns. */
const BY_HEAD_TRANSPOSED = [0, 2, 3, 1];

/**
 * Attention of tokens over each other. Source: diffusers' WanAttention as `attn1`.
 * @param x `[batch, tokens, width]`
 */
export function selfAttention(scope: Scope, x: Operand, rotation: Rotation, config: WanConfig): Operand {
  const query = rotate(scope.in('rotary_q'), heads(scope, normed(scope, 'q', x, config), config), rotation);
  const key = rotate(scope.in('rotary_k'), heads(scope, normed(scope, 'k', x, config), config), rotation);
  const value = heads(scope, linear(scope.in('to_v'), x, config.width), config);
  return output(scope, attend(scope, scaledQuery(scope, query, config), key, value, config), config);
}

/**
 * Attention of tokens over the text and, in models that take one, over an image with keys and values of its own.
 *
 * Source: diffusers' WanAttention as `attn2`. It finds the text in a joint sequence as its last 512 positions; here the two never meet.
 * @param x `[batch, tokens, width]`
 */
export function crossAttention(
  scope: Scope,
  x: Operand,
  text: Operand,
  image: Operand | undefined,
  config: WanConfig,
): Operand {
  const query = scaledQuery(scope, heads(scope, normed(scope, 'q', x, config), config), config);
  const key = heads(scope, normed(scope, 'k', text, config), config);
  const value = heads(scope, linear(scope.in('to_v'), text, config.width), config);
  const ofText = attend(scope, query, key, value, config);
  if (!image) return output(scope, ofText, config);
  const imageKey = rmsNorm(scope.in('norm_added_k'), linear(scope.in('add_k_proj'), image, config.width), config.eps);
  const imageValue = linear(scope.in('add_v_proj'), image, config.width);
  const onImage = scope.in('image');
  const ofImage = attend(onImage, query, heads(onImage, imageKey, config), heads(onImage, imageValue, config), config);
  return output(scope, scope.add(ofText, ofImage), config);
}

/** Queries or keys, normalized over all heads together. */
function normed(scope: Scope, part: 'q' | 'k', x: Operand, { width, eps }: WanConfig): Operand {
  return rmsNorm(scope.in(`norm_${part}`), linear(scope.in(`to_${part}`), x, width), eps);
}

/** `[batch, n, width]` to `[batch, n, heads, headDim]` */
function heads(scope: Scope, x: Operand, config: WanConfig): Operand {
  return scope.reshape(x, [0, 0, config.heads, config.headDim]);
}

/** The scores' scale is put on both factors, half each: products of large queries and keys stay in the range of FP16. */
function scale(scope: Scope, { headDim }: WanConfig): Operand {
  return scope.scalar(Math.fround(headDim ** -0.25));
}

/** @returns `[batch, heads, n, headDim]` */
function scaledQuery(scope: Scope, query: Operand, config: WanConfig): Operand {
  return scope.mul(scope.transpose(query, BY_HEAD), scale(scope, config));
}

/**
 * @param query as {@link scaledQuery} makes it
 * @param key `[batch, m, heads, headDim]`, as `value`
 * @returns `[batch, n, width]`
 */
function attend(scope: Scope, query: Operand, key: Operand, value: Operand, config: WanConfig): Operand {
  const keys = scope.mul(scope.transpose(key, BY_HEAD_TRANSPOSED), scale(scope, config));
  const scores = scope.matmul(query, keys);
  const weights = scope.map('Softmax', scores, [{ name: 'axis', type: 'int', value: -1 }]);
  const mixed = scope.matmul(weights, scope.transpose(value, BY_HEAD));
  return scope.reshape(scope.transpose(mixed, BY_HEAD), [0, 0, config.width]);
}

function output(scope: Scope, x: Operand, { width }: WanConfig): Operand {
  return linear(scope.in('to_out').in('0'), x, width);
}
