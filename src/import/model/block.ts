import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';
import { feedForward, layerNorm } from '../layers.js';
import { crossAttention, selfAttention } from './attention.js';
import { BLOCK_MODULATIONS, type Conditions } from './condition-embedder.js';
import { modulatedNorm, modulations } from './modulation.js';
import type { Rotation } from './rotary.js';

/**
 * Self attention, cross attention, feed-forward, each added to what it reads.
 *
 * Source: diffusers' WanTransformerBlock.
 * @param x `[batch, tokens, width]`
 */
export function block(
  scope: Scope,
  x: Operand,
  conditions: Conditions,
  rotation: Rotation,
  config: WanConfig,
): Operand {
  const { eps } = config;
  const [shift, scale, gate, ffnShift, ffnScale, ffnGate] = modulations(
    scope,
    conditions.modulations,
    BLOCK_MODULATIONS,
  ) as [Operand, Operand, Operand, Operand, Operand, Operand];

  const own = selfAttention(
    scope.in('attn1'),
    modulatedNorm(scope.in('norm1'), x, eps, shift, scale),
    rotation,
    config,
  );
  const attended = scope.add(x, scope.mul(own, gate));

  const asked = config.crossAttnNorm ? layerNorm(scope.in('norm2'), attended, eps, true) : attended;
  const informed = scope.add(
    attended,
    crossAttention(scope.in('attn2'), asked, conditions.text, conditions.image, config),
  );

  const normed = modulatedNorm(scope.in('norm3'), informed, eps, ffnShift, ffnScale);
  const fed = feedForward(scope.in('ffn'), normed, config.ffnDim, config.width, 'tanh');
  return scope.add(informed, scope.mul(fed, ffnGate));
}
