import { describe, expect, it } from 'vitest';
import { toYuv420 } from '../../../../src/generate/mp4/yuv.js';

describe('YUV 4:2:0', () => {
  // Colour bars at 100 % in 8-bit BT.709.
  it.each([
    ['white', [255, 255, 255], [235, 128, 128]],
    ['yellow', [255, 255, 0], [219, 16, 138]],
    ['cyan', [0, 255, 255], [188, 154, 16]],
    ['green', [0, 255, 0], [173, 42, 26]],
    ['magenta', [255, 0, 255], [78, 214, 230]],
    ['red', [255, 0, 0], [63, 102, 240]],
    ['blue', [0, 0, 255], [32, 240, 118]],
    ['black', [0, 0, 0], [16, 128, 128]],
  ])('of %s is that of the colour bars', (_, rgb, [y, cb, cr]) => {
    const frame = Uint8Array.from({ length: 4 * 6 * 3 }, (_, i) => rgb[i % 3] as number);
    const yuv = [...toYuv420(frame, 4, 6)];
    expect(yuv).toEqual([...Array(24).fill(y), ...Array(6).fill(cb), ...Array(6).fill(cr)]);
  });

  it('has planes in rows, and the mean chroma of each 2 x 2 pixels', () => {
    // Red in the top left pixel of the right half; the rest is black.
    const frame = new Uint8Array(2 * 4 * 3);
    frame[2 * 3] = 255;
    expect([...toYuv420(frame, 2, 4)]).toEqual([16, 16, 63, 16, 16, 16, 16, 16, 128, 122, 128, 156]);
  });
});
