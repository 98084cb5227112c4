import type { Operand, Scope } from '../builder.js';
import { layerNorm } from '../layers.js';

/**
 * A module's learned table plus what the timestep adds to it, cut into its rows. Each goes with `[batch, tokens, width]`.
 * @param embedding `[batch, rows, width]`, or `[batch, tokens, rows, width]` where every token has a timestep; rows may be 1
 */
export function modulations(scope: Scope, embedding: Operand, rows: number): Operand[] {
  const width = Number(embedding.dims.at(-1));
  const sum = scope.add(scope.weight('scale_shift_table', [1, rows, width]), embedding);
  const parts = scope.split(sum, -2, rows);
  return embedding.dims.length === 3 ? parts : parts.map((part) => scope.squeeze(part, -2));
}

/** LayerNorm without parameters of its own, scaled and shifted: norm(x) * (1 + scale) + shift. */
export function modulatedNorm(scope: Scope, x: Operand, eps: number, shift: Operand, scale: Operand): Operand {
  const factor = scope.add(scale, scope.scalar(1));
  return scope.add(scope.mul(layerNorm(scope, x, eps, false), factor), shift);
}
