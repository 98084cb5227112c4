import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';
import { GRID } from './patch-embedding.js';

const THETA = 10_000;

/** Cosines and sines of every token's angles, float32 `[1, tokens, 1, pairs, 1]`; a head's features are `pairs` pairs. */
export interface Rotation {
  readonly cos: Operand;
  readonly sin: Operand;
}

/** How a head's pairs of features are shared out: frames get what height and width, a third each rounded down, leave over. */
export function axisPairs(headDim: number): readonly [frames: number, height: number, width: number] {
  const side = Math.floor(headDim / 6);
  return [headDim / 2 - 2 * side, side, side];
}

/**
 * Cosines and sines of one axis: `[positions, 2, pairs]`. Worked out in float64 and rounded once, as diffusers does.
 *
 * Source: diffusers' `get_1d_rotary_pos_embed`; Su et al., RoFormer (2021).
 */
export function axisTable(positions: number, pairs: number): Float32Array {
  const table = new Float32Array(positions * 2 * pairs);
  for (let pair = 0; pair < pairs; pair++) {
    const frequency = 1 / THETA ** (pair / pairs);
    for (let position = 0; position < positions; position++) {
      const at = position * 2 * pairs + pair;
      table[at] = Math.cos(position * frequency);
      table[at + pairs] = Math.sin(position * frequency);
    }
  }
  return table;
}

/**
 * The rotation of every token of a video. A grid beyond the tables fails when the graph runs, as it does in diffusers.
 *
 * Source: diffusers' WanRotaryPosEmbed.
 * @param volume `[batch, width, frames, height, width]` of the token grid
 */
export function rotaryEmbedding(scope: Scope, volume: Operand, { headDim, maxPositions }: WanConfig): Rotation {
  const grid = scope.shape(volume, 2, 5);
  const axes = axisPairs(headDim).map((pairs, axis) => {
    const size = GRID[axis] as string;
    const table = scope.table(`axis_${axis}`, [maxPositions, 2, pairs], axisTable(maxPositions, pairs));
    const rows = scope.firstRows(table, scope.shape(volume, 2 + axis, 3 + axis), size);
    const along = scope.reshape(rows, [1, 1, 1, 2, pairs].with(axis, -1), size);
    const shape = scope.concat([grid, scope.integers([2, pairs])], 0);
    return scope.expand(along, shape, [...GRID, 2, pairs]);
  });
  const [cos, sin] = scope.split(scope.concat(axes, -1), 3, 2) as [Operand, Operand];
  const perToken = (part: Operand): Operand => scope.reshape(part, [1, -1, 1, headDim / 2, 1], 'tokens');
  return { cos: perToken(cos), sin: perToken(sin) };
}

/**
 * Turns each pair of neighbouring features by its token's angle.
 * @param x `[batch, tokens, heads, headDim]`
 */
export function rotate(scope: Scope, x: Operand, { cos, sin }: Rotation): Operand {
  const [heads, headDim] = x.dims.slice(2).map(Number) as [number, number];
  const pairs = scope.reshape(x, [0, 0, heads, headDim / 2, 2]);
  const [a, b] = scope.split(pairs, -1, 2) as [Operand, Operand];
  const first = scope.sub(scope.mul(a, cos), scope.mul(b, sin));
  const second = scope.add(scope.mul(a, sin), scope.mul(b, cos));
  return scope.reshape(scope.concat([first, second], -1), [0, 0, heads, headDim]);
}
