import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { frameGrid, spreadFrames } from '../../../src/generate/frames.js';

describe('frames of a picture', () => {
  it.each([
    [1, 6, [0]],
    [3, 6, [0, 1, 2]],
    [17, 5, [0, 4, 8, 12, 16]],
    [121, 4, [0, 40, 80, 120]],
  ])('of %i, %i at most, are spread from first to last', (frames, most, chosen) => {
    expect(spreadFrames(frames, most)).toEqual(chosen);
  });

  it('lie in rows, left to right and top to bottom', async () => {
    // Each frame of 2 x 3 pixels is of one grey.
    const [height, width] = [2, 3];
    const data = Uint8Array.from({ length: 5 * 18 }, (_, i) => 10 + Math.floor(i / 18));
    const png = await frameGrid({ data, frames: 5, height, width }, [0, 2, 4], 2);
    const { data: pixels, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: 6, height: 4, channels: 3 });
    const grey = Array.from({ length: 24 }, (_, i) => pixels[i * 3]);
    const row = (a: number, b: number): number[] => [a, a, a, b, b, b];
    expect(grey).toEqual([...row(10, 12), ...row(10, 12), ...row(14, 0), ...row(14, 0)]);
  });
});
