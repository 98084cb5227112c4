import sharp, { type WebpOptions } from 'sharp';
import { magmaTable } from './colormap.js';
import type { Sheets } from './results.js';
import { DIFFERENCE_GAIN, type Frames } from './strip.js';

/** Bytes that the pictures of all videos of a page may have together: 11.3 MB as text, which leaves the rest of 15 MB to 200 histograms and all else. */
export const PAGE_SHEETS_BYTES = 8_500_000;

/** A side of a WebP picture, pixels. */
const MAX_SIDE = 16_383;

/** Pixels of a sheet. A browser holds each as four bytes. */
const MAX_PIXELS = 4_000_000;

/** What a pixel of natural video takes at a middling quality. */
const BYTES_PER_PIXEL = 0.12;

/** A tile shows no less than this, pixels, before frames are left out. */
const LEAST_TILE = 44_000;

/** Frames that are always shown where the video has them: fewer make no clip. */
const LEAST_FRAMES = 9;

/** Twelve a second of the 5B's clip, which are enough to see movement. */
const MOST_FRAMES = 61;

/** Encoders from the best to the least. */
const LADDER: readonly WebpOptions[] = [
  { lossless: true, effort: 0 },
  ...[95, 88, 80, 70, 58, 45].map((quality) => ({ quality, smartSubsample: true })),
];

/** The best rung for pictures that are scaled down anyway. */
const FIRST_SCALED = 2;

/** What a pixel of both videos takes without loss where that goes well: with less room it is not tried. */
const LOSSLESS_BYTES_PER_PIXEL = 0.8;

/** How frames are laid out in a sheet. */
export type SheetsLayout = Pick<Sheets, 'columns' | 'frames' | 'width' | 'height'>;

/** Frames of two videos and their difference, as tiles of one WebP picture each. */
export interface SheetPictures {
  readonly reference: Uint8Array;
  readonly quantized: Uint8Array;
  readonly difference: Uint8Array;
  readonly layout: SheetsLayout;
}

/**
 * Pictures of a video for the page: frames evenly chosen and scaled down, never up, until all three fit the budget; lossless where that fits.
 * A pixel of the difference is the largest |reference - quantized| of any channel in the area that it stands for, taken before scaling, times
 * {@link DIFFERENCE_GAIN}, in magma's colours: a single damaged pixel stays visible in the frames that are shown.
 *
 * Beside both videos it holds the sheets and no more than a frame of each.
 *
 * @param budget bytes of all three together; a budget too small for the least sheet is overrun
 */
export async function makeSheets(reference: Frames, quantized: Frames, budget: number): Promise<SheetPictures> {
  let pixels = Math.min(MAX_PIXELS, budget / 3 / BYTES_PER_PIXEL);
  for (;;) {
    const layout = sheetsLayout(reference, pixels);
    const sheets = await drawSheets(reference, quantized, layout);
    const scaled = layout.width < reference.width || layout.frames.length < reference.frames;
    const area = layout.frames.length * layout.width * layout.height;
    const roomy = budget > 2 * area * LOSSLESS_BYTES_PER_PIXEL;
    const pictures = await encode(sheets, budget, scaled ? FIRST_SCALED : roomy ? 0 : 1);
    const bytes = bytesOf(pictures);
    if (bytes <= budget || area <= LEAST_FRAMES * 32 * 32) {
      const [a, b, difference] = pictures as [Uint8Array, Uint8Array, Uint8Array];
      return { reference: a, quantized: b, difference, layout };
    }
    pixels = Math.min(area, pixels) * Math.min(0.9, (0.95 * budget) / bytes);
  }
}

/** @param pixels of a sheet, at most, as far as that leaves frames and tiles of some size */
export function sheetsLayout({ frames, width, height }: Omit<Frames, 'data'>, pixels: number): SheetsLayout {
  const whole = width * height;
  // Videos of a small model are shown as they are.
  const least = Math.min(whole, LEAST_TILE);
  const shown = Math.min(frames, Math.max(LEAST_FRAMES, Math.min(MOST_FRAMES, Math.floor(pixels / least))));
  const scale = Math.min(1, Math.sqrt(pixels / shown / whole), MAX_SIDE / width, MAX_SIDE / height);
  const tile = {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  };
  // About as wide as high, so that no side is near its end.
  const square = Math.ceil(Math.sqrt((shown * tile.height) / tile.width));
  const columns = Math.max(1, Math.min(shown, square, Math.floor(MAX_SIDE / tile.width)));
  const chosen = Array.from({ length: shown }, (_, i) =>
    shown === 1 ? 0 : Math.round((i * (frames - 1)) / (shown - 1)),
  );
  return { columns, frames: chosen, ...tile };
}

interface Canvas {
  readonly width: number;
  readonly height: number;
  /** `[height, width, 3]` */
  readonly pixels: Uint8Array;
}

async function drawSheets(reference: Frames, quantized: Frames, layout: SheetsLayout): Promise<Canvas[]> {
  const { columns, frames, width, height } = layout;
  const size = { width: columns * width, height: Math.ceil(frames.length / columns) * height };
  const canvases = [0, 1, 2].map((): Canvas => ({ ...size, pixels: new Uint8Array(size.width * size.height * 3) }));
  const [a, b, difference] = canvases as [Canvas, Canvas, Canvas];
  for (const [i, frame] of frames.entries()) {
    const at = { x: (i % columns) * width, y: Math.floor(i / columns) * height };
    place(await scaledFrame(reference, frame, layout), a, at, layout);
    place(await scaledFrame(quantized, frame, layout), b, at, layout);
    place(differenceTile(reference, quantized, frame, layout), difference, at, layout);
  }
  return canvases;
}

function frameOf({ data, width, height }: Frames, frame: number): Uint8Array {
  const size = width * height * 3;
  return data.subarray(frame * size, (frame + 1) * size);
}

async function scaledFrame(video: Frames, frame: number, to: SheetsLayout): Promise<Uint8Array> {
  const pixels = frameOf(video, frame);
  const { width, height } = video;
  if (width === to.width && height === to.height) return pixels;
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(to.width, to.height, { fit: 'fill', kernel: 'lanczos3' })
    .raw()
    .toBuffer();
}

const COLOURS = magmaTable();

/** The largest difference of each area that a pixel of the tile stands for, as a colour. */
function differenceTile(reference: Frames, quantized: Frames, frame: number, to: SheetsLayout): Uint8Array {
  const [a, b] = [frameOf(reference, frame), frameOf(quantized, frame)];
  const { width, height } = reference;
  const largest = new Uint8Array(to.width * to.height);
  const column = Uint16Array.from({ length: width }, (_, x) => Math.floor((x * to.width) / width));
  for (let y = 0, i = 0; y < height; y++) {
    const row = Math.floor((y * to.height) / height) * to.width;
    for (let x = 0; x < width; x++, i += 3) {
      const red = Math.abs((a[i] as number) - (b[i] as number));
      const green = Math.abs((a[i + 1] as number) - (b[i + 1] as number));
      const blue = Math.abs((a[i + 2] as number) - (b[i + 2] as number));
      const most = red > green ? (red > blue ? red : blue) : green > blue ? green : blue;
      const target = row + (column[x] as number);
      if (most > (largest[target] as number)) largest[target] = most;
    }
  }
  const colours = new Uint8Array(largest.length * 3);
  largest.forEach((value, i) => {
    const level = Math.min(255, DIFFERENCE_GAIN * value);
    colours.set(COLOURS.subarray(3 * level, 3 * level + 3), 3 * i);
  });
  return colours;
}

function place(tile: Uint8Array, canvas: Canvas, { x, y }: { x: number; y: number }, layout: SheetsLayout): void {
  const { width, height } = layout;
  for (let row = 0; row < height; row++) {
    const target = ((y + row) * canvas.width + x) * 3;
    canvas.pixels.set(tile.subarray(row * width * 3, (row + 1) * width * 3), target);
  }
}

/** The best rung of the ladder, from `first` on, that fits the budget; the last one where none does. */
async function encode(sheets: readonly Canvas[], budget: number, first: number): Promise<readonly Uint8Array[]> {
  let pictures: readonly Uint8Array[] = [];
  for (const options of LADDER.slice(first)) {
    pictures = await Promise.all(sheets.map((sheet) => webp(sheet, options)));
    if (bytesOf(pictures) <= budget) break;
  }
  return pictures;
}

function bytesOf(pictures: readonly Uint8Array[]): number {
  return pictures.reduce((sum, { length }) => sum + length, 0);
}

async function webp({ pixels, width, height }: Canvas, options: WebpOptions): Promise<Uint8Array> {
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .webp({ effort: 1, ...options })
    .toBuffer();
}
