import type { Video } from '../../pipeline/vae.js';

/**
 * Peak signal-to-noise ratio of 8-bit frames, dB: 10 log10(255^2 / MSE) with the mean over all values, frames and channels.
 * Identical inputs give Infinity.
 */
export function psnr(reference: Uint8Array, other: Uint8Array): number {
  if (reference.length !== other.length) throw new RangeError('videos differ in size');
  let squared = 0;
  for (let i = 0; i < reference.length; i++) squared += ((reference[i] as number) - (other[i] as number)) ** 2;
  return decibels(squared, reference.length);
}

/** {@link psnr} of each frame with its counterpart, dB. */
export function framePsnr(reference: Video, other: Video): number[] {
  if (reference.data.length !== other.data.length) throw new RangeError('videos differ in size');
  const size = reference.data.length / reference.frames;
  return Array.from({ length: reference.frames }, (_, t) =>
    psnr(reference.data.subarray(t * size, (t + 1) * size), other.data.subarray(t * size, (t + 1) * size)),
  );
}

/** PSNR at peak 255 of a sum of squared errors over `count` values; NaN of none, which are not alike. */
export function decibels(squared: number, count: number): number {
  if (count === 0) return Number.NaN;
  return squared === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10((255 * 255 * count) / squared);
}
