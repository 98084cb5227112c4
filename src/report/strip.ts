import sharp from 'sharp';

/** Frames of a video: `[frames, height, width, 3]`, 8-bit RGB. */
export interface Frames {
  readonly data: Uint8Array;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

const COLUMNS = 6;

/** How much the difference row is amplified. */
export const DIFFERENCE_GAIN = 8;

/**
 * Frames side by side as a PNG: reference above, quantized below it, their absolute difference times {@link DIFFERENCE_GAIN} last; columns
 * are frames spread evenly over the video.
 */
export async function frameStrip(reference: Frames, quantized: Frames): Promise<Uint8Array> {
  const { frames, height, width } = reference;
  const columns = Math.min(COLUMNS, frames);
  const size = height * width * 3;
  const canvas = { width: columns * width, height: 3 * height };
  const pixels = new Uint8Array(canvas.width * canvas.height * 3);
  const place = (source: Uint8Array, row: number, column: number): void => {
    for (let y = 0; y < height; y++) {
      const target = ((row * height + y) * canvas.width + column * width) * 3;
      pixels.set(source.subarray(y * width * 3, (y + 1) * width * 3), target);
    }
  };
  for (let column = 0; column < columns; column++) {
    const frame = columns === 1 ? 0 : Math.round((column * (frames - 1)) / (columns - 1));
    const a = reference.data.subarray(frame * size, (frame + 1) * size);
    const b = quantized.data.subarray(frame * size, (frame + 1) * size);
    const gap = a.map((value, i) => Math.min(255, DIFFERENCE_GAIN * Math.abs(value - (b[i] as number))));
    for (const [row, source] of [a, b, gap].entries()) place(source, row, column);
  }
  return sharp(pixels, { raw: { ...canvas, channels: 3 } })
    .png()
    .toBuffer();
}
