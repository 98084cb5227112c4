/**
 * Peak signal-to-noise ratio of 8-bit frames, dB: 10 log10(255^2 / MSE) with the mean over all values, frames and channels.
 * Identical inputs give Infinity.
 */
export function psnr(reference: Uint8Array, other: Uint8Array): number {
  if (reference.length !== other.length) throw new RangeError('videos differ in size');
  let squared = 0;
  for (let i = 0; i < reference.length; i++) squared += ((reference[i] as number) - (other[i] as number)) ** 2;
  return squared === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10((255 * 255 * reference.length) / squared);
}
