import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { magma } from '../../../src/report/colormap.js';
import { makeSheets, sheetsLayout } from '../../../src/report/sheets.js';
import type { Frames } from '../../../src/report/strip.js';
import { sampleVideos } from '../../helpers/results.js';

interface Picture {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

async function decode(webp: Uint8Array): Promise<Picture> {
  const { data, info } = await sharp(webp).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

/** A tile of a sheet, `[height, width, 3]`. */
function tile(sheet: Picture, i: number, { columns, width, height }: ReturnType<typeof sheetsLayout>): number[] {
  const [x, y] = [(i % columns) * width, Math.floor(i / columns) * height];
  return Array.from({ length: height }, (_, row) => {
    const start = ((y + row) * sheet.width + x) * 3;
    return [...sheet.data.subarray(start, start + width * 3)];
  }).flat();
}

const SMALL = { prompts: 1, steps: 1, blocks: 1, frames: 5, height: 12, width: 20 };

describe('makeSheets', () => {
  it('keeps every pixel of a small video, and shows differences in magma times the gain', async () => {
    const { a, b } = sampleVideos(1, SMALL);
    const sheets = await makeSheets(a, b, 1_000_000);
    expect(sheets.layout).toEqual({ columns: 2, frames: [0, 1, 2, 3, 4], width: 20, height: 12 });
    const [reference, quantized, difference] = await Promise.all(
      [sheets.reference, sheets.quantized, sheets.difference].map(decode),
    );
    const size = 12 * 20 * 3;
    for (let f = 0; f < 5; f++) {
      const [x, y] = [a, b].map(({ data }) => [...data.subarray(f * size, (f + 1) * size)]) as [number[], number[]];
      expect(tile(reference as Picture, f, sheets.layout)).toEqual(x);
      expect(tile(quantized as Picture, f, sheets.layout)).toEqual(y);
      const colours = Array.from({ length: 240 }, (_, i) => {
        const most = Math.max(...[0, 1, 2].map((c) => Math.abs((x[3 * i + c] as number) - (y[3 * i + c] as number))));
        return magma(Math.min(255, 8 * most));
      });
      expect(tile(difference as Picture, f, sheets.layout)).toEqual(colours.flat());
    }
  });

  it('stays within the budget, whatever it is', async () => {
    const { a, b } = sampleVideos(2, { ...SMALL, frames: 30, height: 96, width: 160 });
    for (const budget of [40_000, 150_000, 5_000_000]) {
      const { reference, quantized, difference, layout } = await makeSheets(a, b, budget);
      expect(reference.length + quantized.length + difference.length).toBeLessThanOrEqual(budget);
      expect(layout.frames.at(0)).toBe(0);
      expect(layout.frames.at(-1)).toBe(29);
      expect(layout.frames.length).toBeGreaterThanOrEqual(9);
    }
  });

  it('does not lose one damaged pixel of a video that is scaled down', async () => {
    const [frames, height, width] = [9, 400, 640];
    const data = new Uint8Array(frames * height * width * 3).fill(90);
    const damaged = data.slice();
    damaged[(4 * height * width + 211 * width + 333) * 3 + 1] = 190;
    const video = (of: Uint8Array): Frames => ({ data: of, frames, height, width });
    const { difference, layout } = await makeSheets(video(data), video(damaged), 20_000);
    expect(layout.width).toBeLessThan(width / 2);
    const sheet = await decode(difference);
    const brightest = layout.frames.map((_, i) => Math.max(...tile(sheet, i, layout)));
    expect(brightest[4]).toBeGreaterThan(120);
    expect(Math.max(...brightest.filter((_, i) => i !== 4))).toBeLessThan(40);
  });
});

describe('sheetsLayout', () => {
  it.each([
    [{ frames: 121, height: 704, width: 1280 }, 1_400_000],
    [{ frames: 1000, height: 16, width: 16 }, 4_000_000],
    [{ frames: 2, height: 10, width: 60_000 }, 4_000_000],
    [{ frames: 9, height: 40_000, width: 3 }, 4_000_000],
    [{ frames: 1, height: 1, width: 1 }, 1],
  ])('fits %o into a picture that WebP can hold', (video, pixels) => {
    const { columns, frames, width, height } = sheetsLayout(video, pixels);
    expect(columns * width).toBeLessThanOrEqual(16_383);
    expect(Math.ceil(frames.length / columns) * height).toBeLessThanOrEqual(16_383);
    expect(width).toBeLessThanOrEqual(video.width);
    expect(height).toBeLessThanOrEqual(video.height);
    expect(new Set(frames).size).toBe(frames.length);
    expect(frames.at(-1)).toBe(video.frames - 1);
  });
});
