import type { Video } from '../../pipeline/vae.js';

const SIGMA = 1.5;
const RADIUS = 5;
const C1 = (0.01 * 255) ** 2;
const C2 = (0.03 * 255) ** 2;

const KERNEL = ((): Float64Array => {
  const raw = Float64Array.from({ length: 2 * RADIUS + 1 }, (_, i) =>
    Math.exp(-((i - RADIUS) ** 2) / (2 * SIGMA ** 2)),
  );
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((weight) => weight / sum);
})();

/**
 * Structural similarity of 8-bit videos: the mean over frames, channels and pixels of SSIM with an 11 x 11 Gaussian window of sigma 1.5
 * (Wang et al. 2004), windows that fit into the frame only. Equals scikit-image with gaussian_weights and population covariance.
 *
 * @returns in [-1, 1]
 * @throws RangeError where sizes differ or a frame is smaller than the window
 */
export function ssim(reference: Video, other: Video): number {
  const { frames, height, width } = reference;
  if (other.data.length !== reference.data.length || other.width !== width || other.height !== height) {
    throw new RangeError('videos differ in size');
  }
  if (Math.min(height, width) < KERNEL.length) throw new RangeError('frames are smaller than the SSIM window');
  const plane = height * width;
  const a = new Float64Array(plane);
  const b = new Float64Array(plane);
  let sum = 0;
  for (let frame = 0; frame < frames; frame++) {
    for (let channel = 0; channel < 3; channel++) {
      for (let i = 0; i < plane; i++) {
        const at = (frame * plane + i) * 3 + channel;
        a[i] = reference.data[at] as number;
        b[i] = other.data[at] as number;
      }
      sum += planeSsim(a, b, height, width);
    }
  }
  return sum / (frames * 3);
}

function planeSsim(a: Float64Array, b: Float64Array, height: number, width: number): number {
  const blurred = (values: Float64Array): Float64Array => blur(values, height, width);
  const meanA = blurred(a);
  const meanB = blurred(b);
  const squareA = blurred(a.map((x) => x * x));
  const squareB = blurred(b.map((x) => x * x));
  const product = blurred(a.map((x, i) => x * (b[i] as number)));
  let sum = 0;
  for (let i = 0; i < meanA.length; i++) {
    const ma = meanA[i] as number;
    const mb = meanB[i] as number;
    const varA = (squareA[i] as number) - ma * ma;
    const varB = (squareB[i] as number) - mb * mb;
    const cov = (product[i] as number) - ma * mb;
    sum += ((2 * ma * mb + C1) * (2 * cov + C2)) / ((ma * ma + mb * mb + C1) * (varA + varB + C2));
  }
  return sum / meanA.length;
}

/** Separable Gaussian, valid region only: `[height - 10, width - 10]`. */
function blur(values: Float64Array, height: number, width: number): Float64Array {
  const taps = KERNEL.length;
  const outWidth = width - taps + 1;
  const outHeight = height - taps + 1;
  const rows = new Float64Array(height * outWidth);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < outWidth; x++) {
      let sum = 0;
      for (let k = 0; k < taps; k++) sum += (KERNEL[k] as number) * (values[y * width + x + k] as number);
      rows[y * outWidth + x] = sum;
    }
  }
  const out = new Float64Array(outHeight * outWidth);
  for (let y = 0; y < outHeight; y++) {
    for (let x = 0; x < outWidth; x++) {
      let sum = 0;
      for (let k = 0; k < taps; k++) sum += (KERNEL[k] as number) * (rows[(y + k) * outWidth + x] as number);
      out[y * outWidth + x] = sum;
    }
  }
  return out;
}
