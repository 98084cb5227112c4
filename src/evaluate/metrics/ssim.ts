import type { Video } from '../../pipeline/vae.js';
import { checkSizes, StructureMeter } from './structure.js';

/**
 * Structural similarity of 8-bit videos: the mean over frames, channels and pixels of SSIM with an 11 x 11 Gaussian window of sigma 1.5
 * (Wang et al. 2004), windows that fit into the frame only. Equals scikit-image with gaussian_weights and population covariance.
 *
 * @returns in [-1, 1]
 * @throws RangeError where sizes differ or a frame is smaller than the window
 */
export function ssim(reference: Video, other: Video): number {
  checkSizes(reference, other);
  const { frames, height, width } = reference;
  const size = height * width * 3;
  const meter = new StructureMeter(height, width);
  let sum = 0;
  for (let start = 0; start < frames * size; start += size) {
    meter.compare(reference.data.subarray(start, start + size), other.data.subarray(start, start + size));
    sum += meter.ssim.reduce((a, b) => a + b, 0);
  }
  return sum / (frames * 3);
}
