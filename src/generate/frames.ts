import sharp from 'sharp';
import type { Video } from '../pipeline/vae.js';

/** @returns frames spread evenly over a video, first and last among them; all of them where there are no more than `most` */
export function spreadFrames(frames: number, most: number): number[] {
  const count = Math.min(frames, most);
  if (count === 1) return [0];
  return Array.from({ length: count }, (_, i) => Math.round((i * (frames - 1)) / (count - 1)));
}

/** Frames of a video in rows of `columns`, left to right and top to bottom, as a PNG. */
export async function frameGrid(video: Video, chosen: readonly number[], columns: number): Promise<Uint8Array> {
  const { data, height, width } = video;
  const canvas = { width: columns * width, height: Math.ceil(chosen.length / columns) * height };
  const pixels = new Uint8Array(canvas.width * canvas.height * 3);
  for (const [i, frame] of chosen.entries()) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    for (let y = 0; y < height; y++) {
      const source = (frame * height + y) * width * 3;
      const target = ((row * height + y) * canvas.width + column * width) * 3;
      pixels.set(data.subarray(source, source + width * 3), target);
    }
  }
  return sharp(pixels, { raw: { ...canvas, channels: 3 }, limitInputPixels: false })
    .png()
    .toBuffer();
}
