import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { msSsim } from '../../../../src/evaluate/metrics/ms-ssim.js';
import { framePsnr, psnr } from '../../../../src/evaluate/metrics/psnr.js';
import { ssim } from '../../../../src/evaluate/metrics/ssim.js';
import { StructureMeter } from '../../../../src/evaluate/metrics/structure.js';
import type { Video } from '../../../../src/pipeline/vae.js';

function makeVideo(frames: number, height: number, width: number, pixel: (i: number) => number): Video {
  return { frames, height, width, data: Uint8Array.from({ length: frames * height * width * 3 }, (_, i) => pixel(i)) };
}

const wave = (i: number): number => 128 + 100 * Math.sin(i / 7);
const noise = (i: number): number => wave(i) + ((i * 7919) % 31) - 15;

/** Every pixel twice in both directions, and a last row and column of something else. */
function doubled({ frames, height, width, data }: Video, last: number): Video {
  const [h, w] = [2 * height + 1, 2 * width + 1];
  return makeVideo(frames, h, w, (i) => {
    const [channel, pixel] = [i % 3, Math.floor(i / 3)];
    const [x, y, t] = [pixel % w, Math.floor(pixel / w) % h, Math.floor(pixel / (w * h))];
    if (x === w - 1 || y === h - 1) return last;
    return data[((t * height + (y >> 1)) * width + (x >> 1)) * 3 + channel] as number;
  });
}

describe('msSsim', () => {
  it('is 1 for a video and itself, whatever the number of scales', () => {
    for (const side of [11, 22, 44, 88, 176]) {
      const video = makeVideo(1, side, side, wave);
      expect(msSsim(video, video).value).toBeCloseTo(1, 12);
      expect(msSsim(video, video).scales).toBe(Math.log2(side / 11) + 1);
    }
  });

  it('is SSIM where the window fits once', () => {
    const [a, b] = [makeVideo(2, 15, 21, wave), makeVideo(2, 15, 21, noise)];
    expect(msSsim(a, b).scales).toBe(1);
    expect(msSsim(a, b).value).toBeCloseTo(ssim(a, b), 12);
  });

  it('halves frames by means of 2 x 2 pixels and leaves out an odd row and column', () => {
    const [smallA, smallB] = [makeVideo(1, 12, 13, wave), makeVideo(1, 12, 13, noise)];
    const [a, b] = [doubled(smallA, 0), doubled(smallB, 255)];
    const [fine, coarse] = [new StructureMeter(25, 27), new StructureMeter(12, 13)];
    fine.compare(a.data, b.data);
    coarse.compare(smallA.data, smallB.data);
    const total = 0.0448 + 0.2856;
    const channels = [0, 1, 2].map(
      (c) => (fine.contrastStructure[c] as number) ** (0.0448 / total) * (coarse.ssim[c] as number) ** (0.2856 / total),
    );
    expect(msSsim(a, b).value).toBeCloseTo(channels.reduce((x, y) => x + y, 0) / 3, 12);
  });

  it('does not depend on which video is the reference', () => {
    const [a, b] = [makeVideo(1, 24, 24, wave), makeVideo(1, 24, 24, noise)];
    expect(msSsim(a, b).value).toBeCloseTo(msSsim(b, a).value, 12);
    expect(msSsim(a, b).value).toBeLessThan(0.999);
  });

  it('refuses videos of other sizes and frames below the window', () => {
    const video = makeVideo(1, 12, 12, wave);
    expect(() => msSsim(video, makeVideo(2, 12, 12, wave))).toThrow(RangeError);
    expect(() => msSsim(video, makeVideo(1, 11, 12, wave))).toThrow(RangeError);
    const low = makeVideo(1, 10, 40, wave);
    expect(() => msSsim(low, low)).toThrow(/smaller than the SSIM window/);
  });
});

describe('StructureMeter', () => {
  it('is the mean of the terms over all windows, by definition', () => {
    const [height, width] = [13, 12];
    const [a, b] = [makeVideo(1, height, width, wave), makeVideo(1, height, width, noise)];
    const meter = new StructureMeter(height, width);
    meter.compare(a.data, b.data);
    const taps = Array.from({ length: 11 }, (_, i) => Math.exp(-((i - 5) ** 2) / 4.5));
    const sum = taps.reduce((x, y) => x + y, 0);
    let expected = 0;
    for (let top = 0; top < 3; top++) {
      for (let left = 0; left < 2; left++) {
        const moment = (of: (x: number, y: number) => number): number => {
          let value = 0;
          for (let y = 0; y < 11; y++) {
            for (let x = 0; x < 11; x++) {
              const at = ((top + y) * width + left + x) * 3 + 1;
              value += (taps[y] as number) * (taps[x] as number) * of(a.data[at] as number, b.data[at] as number);
            }
          }
          return value / sum ** 2;
        };
        const [ma, mb] = [moment((x) => x), moment((_, y) => y)];
        const spread = moment((x, y) => x * x + y * y) - ma * ma - mb * mb;
        const shared = moment((x, y) => x * y) - ma * mb;
        expected += (2 * shared + 58.5225) / (spread + 58.5225) / 6;
      }
    }
    expect(meter.contrastStructure[1]).toBeCloseTo(expected, 10);
  });

  it('forgets what it compared before', () => {
    const [a, b] = [makeVideo(1, 14, 14, wave), makeVideo(1, 14, 14, noise)];
    const meter = new StructureMeter(14, 14);
    meter.compare(a.data, b.data);
    const first = [...meter.ssim];
    meter.compare(b.data, b.data);
    meter.compare(a.data, b.data);
    expect([...meter.ssim]).toEqual(first);
  });
});

describe('psnr', () => {
  it('is infinite for identical frames, and not a number for none', () => {
    expect(psnr(Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toBe(Number.POSITIVE_INFINITY);
    expect(psnr(new Uint8Array(), new Uint8Array())).toBeNaN();
  });
});

describe('framePsnr', () => {
  it('is the PSNR of each frame', () => {
    const a = makeVideo(3, 1, 2, () => 100);
    const b = makeVideo(3, 1, 2, (i) => 100 + Math.floor(i / 6) * 5);
    expect(framePsnr(a, b)).toEqual(
      [Number.POSITIVE_INFINITY, 20 * Math.log10(255 / 5), 20 * Math.log10(255 / 10)].map((x) =>
        Number.isFinite(x) ? expect.closeTo(x, 10) : x,
      ),
    );
  });

  it('holds the error of the whole video', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 36, maxLength: 36 }),
        fc.uint8Array({ minLength: 36, maxLength: 36 }),
        (x, y) => {
          const [a, b] = [x, y].map((data) => ({ frames: 3, height: 2, width: 2, data })) as [Video, Video];
          const error = framePsnr(a, b).reduce((sum, db) => sum + 10 ** (-db / 10), 0) / 3;
          expect(error).toBeCloseTo(10 ** (-psnr(x, y) / 10), 10);
        },
      ),
      { seed: 1 },
    );
  });

  it('refuses videos of other sizes', () => {
    expect(() => framePsnr(makeVideo(1, 1, 1, wave), makeVideo(2, 1, 1, wave))).toThrow(RangeError);
  });
});
