import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { temporalDifference } from '../../../../src/evaluate/metrics/temporal.js';
import type { Video } from '../../../../src/pipeline/vae.js';

/** Frames of one grey pixel. */
function greys(values: readonly number[]): Video {
  return { frames: values.length, height: 1, width: 1, data: Uint8Array.from(values.flatMap((x) => [x, x, x])) };
}

describe('temporalDifference', () => {
  it('compares the changes from frame to frame', () => {
    const { psnr, flicker, flickerRatio } = temporalDifference(greys([10, 20, 15]), greys([10, 24, 11])) ?? {};
    // Changes 10, -5 and 14, -13.
    expect(psnr).toBeCloseTo(10 * Math.log10(255 ** 2 / ((4 ** 2 + 8 ** 2) / 2)), 10);
    expect(flicker).toEqual({ reference: 7.5, other: 13.5 });
    expect(flickerRatio).toBeCloseTo(13.5 / 7.5, 12);
  });

  it('does not see a constant shift of all frames', () => {
    const frames = fc.array(fc.integer({ min: 0, max: 200 }), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(frames, fc.integer({ min: 0, max: 55 }), (values, shift) => {
        const found = temporalDifference(greys(values), greys(values.map((x) => x + shift)));
        expect(found?.psnr).toBe(Number.POSITIVE_INFINITY);
        expect(found?.flickerRatio).toBe(1);
      }),
      { seed: 1 },
    );
  });

  it('is not defined for one frame', () => {
    expect(temporalDifference(greys([10]), greys([20]))).toBeUndefined();
  });

  it('has an infinite ratio where the reference alone stands still', () => {
    expect(temporalDifference(greys([10, 10]), greys([10, 11]))?.flickerRatio).toBe(Number.POSITIVE_INFINITY);
    expect(temporalDifference(greys([10, 11]), greys([10, 10]))?.flickerRatio).toBe(0);
  });

  it('refuses videos of other lengths', () => {
    expect(() => temporalDifference(greys([1, 2]), greys([1, 2, 3]))).toThrow(RangeError);
  });
});
