import type { Video } from '../../pipeline/vae.js';
import { checkSizes, StructureMeter, WINDOW } from './structure.js';

/** Exponents of the scales, the finest first (Wang, Simoncelli and Bovik 2003); they sum to 1.0001. */
const WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

export interface MultiScaleSimilarity {
  /** In [0, 1]. */
  readonly value: number;
  /** How many of the five scales the frames have room for. */
  readonly scales: number;
  /** Single-scale SSIM of the same videos, as `ssim` gives it: the finest scale computes it anyway. */
  readonly ssim: number;
}

/**
 * Multi-scale structural similarity of 8-bit videos (Wang, Simoncelli and Bovik 2003): for each frame and channel the product of contrast x
 * structure at every scale and of luminance at the coarsest, each to its published exponent; then the mean over frames and channels. The
 * window is that of `ssim`. A scale is the one before averaged over 2 x 2 pixels; an odd last row or column is left out. Negative terms
 * count as 0, since they have no real power.
 *
 * Frames below 176 pixels have no room for five scales: as many are used as the window fits into, their exponents divided by their sum.
 *
 * @throws RangeError where sizes differ or a frame is smaller than the window
 */
export function msSsim(reference: Video, other: Video): MultiScaleSimilarity {
  checkSizes(reference, other);
  const { frames, height, width } = reference;
  const levels = makeLevels(height, width);
  const total = levels.length === WEIGHTS.length ? 1 : WEIGHTS.slice(0, levels.length).reduce((a, b) => a + b, 0);
  const size = height * width * 3;
  let sum = 0;
  let single = 0;
  for (let start = 0; start < frames * size; start += size) {
    const products = [1, 1, 1];
    let a: ArrayLike<number> = reference.data.subarray(start, start + size);
    let b: ArrayLike<number> = other.data.subarray(start, start + size);
    for (const [scale, { meter, halves, width: rowLength }] of levels.entries()) {
      meter.compare(a, b);
      const terms = scale === levels.length - 1 ? meter.ssim : meter.contrastStructure;
      const exponent = (WEIGHTS[scale] as number) / total;
      for (let channel = 0; channel < 3; channel++) {
        products[channel] = (products[channel] as number) * Math.max(terms[channel] as number, 0) ** exponent;
        if (scale === 0) single += meter.ssim[channel] as number;
      }
      if (halves) {
        a = halve(a, halves.a, halves, rowLength);
        b = halve(b, halves.b, halves, rowLength);
      }
    }
    sum += products.reduce((x, y) => x + y, 0);
  }
  return { value: sum / (frames * 3), scales: levels.length, ssim: single / (frames * 3) };
}

/** Both frames of the next scale. */
interface Halves {
  readonly height: number;
  readonly width: number;
  readonly a: Float64Array;
  readonly b: Float64Array;
}

interface Level {
  readonly width: number;
  readonly meter: StructureMeter;
  /** Absent at the coarsest scale. */
  readonly halves: Halves | undefined;
}

function makeLevels(height: number, width: number): Level[] {
  const levels: Level[] = [];
  let [h, w] = [height, width];
  while (levels.length < WEIGHTS.length && Math.min(h, w) >= WINDOW) {
    const next = { height: h >> 1, width: w >> 1 };
    const more = levels.length + 1 < WEIGHTS.length && Math.min(next.height, next.width) >= WINDOW;
    const buffer = (): Float64Array => new Float64Array(next.height * next.width * 3);
    const halves = more ? { ...next, a: buffer(), b: buffer() } : undefined;
    levels.push({ width: w, meter: new StructureMeter(h, w), halves });
    [h, w] = [next.height, next.width];
  }
  return levels;
}

/** Means of 2 x 2 pixels of a frame `[height, width, 3]`. @param rowLength the frame's width, pixels */
function halve(
  frame: ArrayLike<number>,
  out: Float64Array,
  { height, width }: Halves,
  rowLength: number,
): Float64Array {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (2 * y * rowLength + 2 * x) * 3;
      const below = from + 3 * rowLength;
      const to = (y * width + x) * 3;
      for (let c = 0; c < 3; c++) {
        const above = (frame[from + c] as number) + (frame[from + 3 + c] as number);
        out[to + c] = (above + (frame[below + c] as number) + (frame[below + 3 + c] as number)) / 4;
      }
    }
  }
  return out;
}
