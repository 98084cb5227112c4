import { WanqError } from '../errors.js';
import type { Graph } from '../ir/graph.js';
import { fixedDim } from './signature.js';

/** Latents of one video, `[channels, frames, height, width]` in latent units. */
export interface LatentShape {
  readonly channels: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

export interface VideoSize {
  readonly frames?: number | undefined;
  readonly height?: number | undefined;
  readonly width?: number | undefined;
}

/** Frames and pixels that one latent stands for. */
export interface ScaleFactors {
  readonly temporal: number;
  readonly spatial: number;
}

/** What Wan2.2-TI2V-5B is served at. */
const DEFAULT_SIZE = { frames: 121, height: 704, width: 1280 } as const;

export function latentElements({ channels, frames, height, width }: LatentShape): number {
  return channels * frames * height * width;
}

export function latentDims({ channels, frames, height, width }: LatentShape): number[] {
  return [1, channels, frames, height, width];
}

/** Video tokens of a forward. @param patch height and width of a token in latent units */
export function tokensOf({ frames, height, width }: LatentShape, patch: readonly [number, number]): number {
  return frames * Math.floor(height / patch[0]) * Math.floor(width / patch[1]);
}

/**
 * The latent shape of a video size. Sizes not asked for come from the VAE decoder where its graph fixes them, else from the 5B's default.
 *
 * @throws WanqError USAGE where frames are not 1 mod the temporal factor, or height and width no multiples of the patch in pixels
 */
export function latentShape(
  channels: number,
  { temporal, spatial }: ScaleFactors,
  patch: readonly [number, number],
  decoder: Graph | undefined,
  size: VideoSize,
): LatentShape {
  const input = decoder?.inputs[0];
  const fixed = { frames: fixedDim(input, 2), height: fixedDim(input, 3), width: fixedDim(input, 4) };
  const pixels = {
    frames: size.frames ?? (fixed.frames === undefined ? DEFAULT_SIZE.frames : (fixed.frames - 1) * temporal + 1),
    height: size.height ?? (fixed.height === undefined ? DEFAULT_SIZE.height : fixed.height * spatial),
    width: size.width ?? (fixed.width === undefined ? DEFAULT_SIZE.width : fixed.width * spatial),
  };
  for (const [side, value] of Object.entries(pixels)) {
    if (!(value >= 1))
      throw new WanqError('USAGE', `${side} of ${value} cannot be encoded`, { hint: 'give at least 1' });
  }
  if ((pixels.frames - 1) % temporal !== 0) {
    throw new WanqError('USAGE', `${pixels.frames} frames cannot be encoded`, {
      hint: `use a multiple of ${temporal} plus 1`,
    });
  }
  for (const [i, side] of (['height', 'width'] as const).entries()) {
    const step = spatial * (patch[i] as number);
    if (pixels[side] % step === 0) continue;
    throw new WanqError('USAGE', `a ${side} of ${pixels[side]} cannot be encoded`, {
      hint: `use a multiple of ${step}`,
    });
  }
  const shape = {
    channels,
    frames: (pixels.frames - 1) / temporal + 1,
    height: pixels.height / spatial,
    width: pixels.width / spatial,
  };
  for (const side of ['frames', 'height', 'width'] as const) {
    if (fixed[side] === undefined || fixed[side] === shape[side]) continue;
    throw new WanqError(
      'USAGE',
      `the VAE decoder was exported for one size: ${side} ${fixed[side]} in latent units, where ${shape[side]} was asked for`,
      {
        hint: 'leave out --frames, --height and --width, or export the VAE for this size',
      },
    );
  }
  return shape;
}
