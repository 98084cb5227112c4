import type { Video } from '../../pipeline/vae.js';
import { decibels } from './psnr.js';

/** How two videos differ in what changes from frame to frame. */
export interface TemporalDifference {
  /**
   * Frame-difference PSNR, dB: 10 log10(255^2 / mean((d_t - d'_t)^2)) with d_t = x_{t+1} - x_t of 8-bit values, over all values, channels
   * and pairs of consecutive frames. Peak 255 as for frames, though differences span -255 to 255. A constant shift of all frames does not
   * lower it. Infinity where all differences are equal.
   */
  readonly psnr: number;
  /** Mean of |x_{t+1} - x_t| of each video, grey levels: its motion and its flicker together. */
  readonly flicker: { readonly reference: number; readonly other: number };
  /** Flicker of the other video over that of the reference; 1 where neither changes at all, Infinity where the reference alone does not. */
  readonly flickerRatio: number;
}

/** @returns undefined for videos of one frame @throws RangeError where sizes differ */
export function temporalDifference(reference: Video, other: Video): TemporalDifference | undefined {
  const { data: a, frames } = reference;
  const { data: b } = other;
  if (a.length !== b.length || frames !== other.frames) throw new RangeError('videos differ in size');
  if (frames < 2) return undefined;
  const size = a.length / frames;
  const count = a.length - size;
  let squared = 0;
  let movedA = 0;
  let movedB = 0;
  for (let i = 0; i < count; i++) {
    const changeA = (a[i + size] as number) - (a[i] as number);
    const changeB = (b[i + size] as number) - (b[i] as number);
    movedA += Math.abs(changeA);
    movedB += Math.abs(changeB);
    squared += (changeA - changeB) ** 2;
  }
  return {
    psnr: decibels(squared, count),
    flicker: { reference: movedA / count, other: movedB / count },
    flickerRatio: movedA === movedB ? 1 : movedB / movedA,
  };
}
