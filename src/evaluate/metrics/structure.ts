import type { Video } from '../../pipeline/vae.js';

const SIGMA = 1.5;
const RADIUS = 5;
const C1 = (0.01 * 255) ** 2;
const C2 = (0.03 * 255) ** 2;

/** Side of the window, pixels. */
export const WINDOW = 2 * RADIUS + 1;

/** Weights of the Gaussian window from its edge to its centre; the other half mirrors them. */
const [K0, K1, K2, K3, K4, K5] = ((): [number, number, number, number, number, number] => {
  const raw = Array.from({ length: WINDOW }, (_, i) => Math.exp(-((i - RADIUS) ** 2) / (2 * SIGMA ** 2)));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.slice(0, RADIUS + 1).map((weight) => weight / sum) as [number, number, number, number, number, number];
})();

/** @throws RangeError where sizes differ or a frame is smaller than the window */
export function checkSizes(reference: Video, other: Video): void {
  const { height, width } = reference;
  if (other.data.length !== reference.data.length || other.width !== width || other.height !== height) {
    throw new RangeError('videos differ in size');
  }
  if (Math.min(height, width) < WINDOW) throw new RangeError('frames are smaller than the SSIM window');
}

/**
 * The terms of SSIM (Wang et al. 2004) for frames of one size: an 11 x 11 Gaussian window of sigma 1.5, population covariance, windows that
 * fit into the frame only, peak 255. Buffers are made once.
 */
export class StructureMeter {
  /** Mean of luminance x contrast x structure for each channel, of the last comparison. */
  readonly ssim = new Float64Array(3);
  /** Mean of contrast x structure for each channel. */
  readonly contrastStructure = new Float64Array(3);
  readonly #height: number;
  readonly #row: number;
  /** One row's a, b, a^2 + b^2 and a b. */
  readonly #lines: readonly [Float64Array, Float64Array, Float64Array, Float64Array];
  /** The last 11 rows of each, blurred along the row. */
  readonly #rings: readonly [Float64Array, Float64Array, Float64Array, Float64Array];

  constructor(height: number, width: number) {
    this.#height = height;
    this.#row = 3 * width;
    const four = (length: number): [Float64Array, Float64Array, Float64Array, Float64Array] => [
      new Float64Array(length),
      new Float64Array(length),
      new Float64Array(length),
      new Float64Array(length),
    ];
    this.#lines = four(this.#row);
    this.#rings = four(WINDOW * this.#row);
  }

  /** @param a, b frames `[height, width, 3]` in 0..255 */
  compare(a: ArrayLike<number>, b: ArrayLike<number>): void {
    const row = this.#row;
    const blurredRow = row - 3 * (WINDOW - 1);
    const [ringA, ringB, ringSquares, ringProduct] = this.#rings;
    const [lineA, lineB, lineSquares, lineProduct] = this.#lines;
    this.ssim.fill(0);
    this.contrastStructure.fill(0);
    for (let y = 0; y < this.#height; y++) {
      const start = y * row;
      for (let i = 0; i < row; i++) {
        const x = a[start + i] as number;
        const z = b[start + i] as number;
        lineA[i] = x;
        lineB[i] = z;
        lineSquares[i] = x * x + z * z;
        lineProduct[i] = x * z;
      }
      const slot = (y % WINDOW) * row;
      blurAlong(lineA, ringA, slot, blurredRow);
      blurAlong(lineB, ringB, slot, blurredRow);
      blurAlong(lineSquares, ringSquares, slot, blurredRow);
      blurAlong(lineProduct, ringProduct, slot, blurredRow);
      if (y >= WINDOW - 1) this.#addRow(y - WINDOW + 1, blurredRow);
    }
    const windows = (blurredRow / 3) * (this.#height - WINDOW + 1);
    for (let channel = 0; channel < 3; channel++) {
      this.ssim[channel] = (this.ssim[channel] as number) / windows;
      this.contrastStructure[channel] = (this.contrastStructure[channel] as number) / windows;
    }
  }

  /** Blurs the 11 rows from `top` on down the columns and adds up the terms of that row of windows. */
  #addRow(top: number, length: number): void {
    const [ringA, ringB, ringSquares, ringProduct] = this.#rings;
    const at = (k: number): number => ((top + k) % WINDOW) * this.#row;
    const rows = [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9), at(10)] as const;
    const [lineA, lineB, lineSquares, lineProduct] = this.#lines;
    blurDown(ringA, lineA, rows, length);
    blurDown(ringB, lineB, rows, length);
    blurDown(ringSquares, lineSquares, rows, length);
    blurDown(ringProduct, lineProduct, rows, length);
    for (let channel = 0; channel < 3; channel++) {
      let both = 0;
      let contrast = 0;
      for (let i = channel; i < length; i += 3) {
        const product = (lineA[i] as number) * (lineB[i] as number);
        const squares = (lineA[i] as number) ** 2 + (lineB[i] as number) ** 2;
        const cs = (2 * ((lineProduct[i] as number) - product) + C2) / ((lineSquares[i] as number) - squares + C2);
        contrast += cs;
        both += (cs * (2 * product + C1)) / (squares + C1);
      }
      this.ssim[channel] = (this.ssim[channel] as number) + both;
      this.contrastStructure[channel] = (this.contrastStructure[channel] as number) + contrast;
    }
  }
}

/** The window along one row of interleaved channels: `length` values into `out` from `slot` on. */
function blurAlong(line: Float64Array, out: Float64Array, slot: number, length: number): void {
  for (let i = 0; i < length; i++) {
    out[slot + i] =
      K0 * ((line[i] as number) + (line[i + 30] as number)) +
      K1 * ((line[i + 3] as number) + (line[i + 27] as number)) +
      K2 * ((line[i + 6] as number) + (line[i + 24] as number)) +
      K3 * ((line[i + 9] as number) + (line[i + 21] as number)) +
      K4 * ((line[i + 12] as number) + (line[i + 18] as number)) +
      K5 * (line[i + 15] as number);
  }
}

type Rows = readonly [number, number, number, number, number, number, number, number, number, number, number];

/** The window down the columns, over rows that start at `rows`. */
function blurDown(ring: Float64Array, out: Float64Array, rows: Rows, length: number): void {
  const [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10] = rows;
  for (let i = 0; i < length; i++) {
    out[i] =
      K0 * ((ring[r0 + i] as number) + (ring[r10 + i] as number)) +
      K1 * ((ring[r1 + i] as number) + (ring[r9 + i] as number)) +
      K2 * ((ring[r2 + i] as number) + (ring[r8 + i] as number)) +
      K3 * ((ring[r3 + i] as number) + (ring[r7 + i] as number)) +
      K4 * ((ring[r4 + i] as number) + (ring[r6 + i] as number)) +
      K5 * (ring[r5 + i] as number);
  }
}
