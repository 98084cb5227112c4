import type { Operand, Scope } from '../builder.js';
import type { WanConfig } from '../config.js';
import { linear } from '../layers.js';
import { modulatedNorm, modulations } from './modulation.js';
import { GRID } from './patch-embedding.js';

/**
 * The last norm and projection, and the patches put back in their places.
 *
 * Source: the end of diffusers' WanTransformer3DModel.forward.
 * @param x `[batch, tokens, width]`
 * @param time `[batch, width]` or `[batch, tokens, width]`
 * @param volume the token grid, `[batch, width, frames, height, width]`
 * @returns `[batch, channels, frames, height, width]` in latent units
 */
export function output(scope: Scope, x: Operand, time: Operand, volume: Operand, config: WanConfig): Operand {
  const { patch, outChannels, eps } = config;
  const [shift, scale] = modulations(scope, scope.unsqueeze(time, -2), 2) as [Operand, Operand];
  const normed = modulatedNorm(scope.in('norm_out'), x, eps, shift, scale);
  const pixels = linear(scope.in('proj_out'), normed, outChannels * patch.reduce((a, b) => a * b, 1));

  const unpatchify = scope.in('unpatchify');
  const grid = unpatchify.shape(volume, 2, 5);
  const [keep, perPatch] = [unpatchify.integers([0]), unpatchify.integers([...patch, outChannels])];
  const cut = unpatchify.concat([keep, grid, perPatch], 0);
  const patches = unpatchify.reshapeTo(pixels, cut, ['batch', ...GRID, ...patch, outChannels]);
  const sides = unpatchify.op('Mul', [grid, unpatchify.integers(patch)], [3], [], 'int64');
  const joined = unpatchify.concat([unpatchify.integers([0, 0]), sides], 0);
  const dims = patch.map((size, axis) => (size === 1 ? (GRID[axis] as string) : `${size}*${GRID[axis]}`));
  return unpatchify.reshapeTo(unpatchify.transpose(patches, [0, 7, 1, 4, 2, 5, 3, 6]), joined, [
    'batch',
    outChannels,
    ...dims,
  ]);
}
