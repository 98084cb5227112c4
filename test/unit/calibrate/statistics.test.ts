import { describe, expect, it } from 'vitest';
import { ActivationStatistics, bucketOf, nonFiniteText, SliceStatistics } from '../../../src/calibrate/statistics.js';

const f32 = (...values: number[]): Float32Array => Float32Array.from(values);

describe('SliceStatistics', () => {
  it('keeps the extremes of every channel and counts samples', () => {
    const slice = new SliceStatistics(2);
    slice.add(f32(-1, 2), f32(1, 3), f32(0.5, 2.5));
    slice.add(f32(-0.5, -4), f32(5, 2), f32(5));
    expect([...slice.channelMin]).toEqual([-1, -4]);
    expect([...slice.channelMax]).toEqual([5, 3]);
    expect(slice.range).toEqual({ min: -4, max: 5 });
    expect(slice.histogram.total).toBe(3);
  });

  it('merges as if all had been added to one', () => {
    const [a, b, both] = [new SliceStatistics(1), new SliceStatistics(1), new SliceStatistics(1)];
    a.add(f32(-1), f32(1), f32(-1, 1));
    b.add(f32(-9), f32(0), f32(-9, 0));
    both.add(f32(-1), f32(1), f32(-1, 1));
    both.add(f32(-9), f32(0), f32(-9, 0));
    a.merge(b);
    expect(a).toEqual(both);
  });

  it('has an empty range before anything is added', () => {
    expect(new SliceStatistics(3).range).toEqual({ min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY });
  });

  it('lets NaN through to the range', () => {
    const slice = new SliceStatistics(2);
    slice.add(f32(Number.NaN, 0), f32(Number.NaN, 0), f32(0));
    slice.add(f32(0, 0), f32(0, 0), f32(0));
    expect(slice.range.min).toBeNaN();
    expect(slice.range.max).toBeNaN();
  });
});

describe('ActivationStatistics', () => {
  it('keeps branches and buckets apart and adds them up', () => {
    const statistics = new ActivationStatistics('x', 1);
    statistics.slice('cond', 0).add(f32(0), f32(1), f32(1));
    statistics.slice('cond', 0).add(f32(0), f32(2), f32(2));
    statistics.slice('uncond', 3).add(f32(-7), f32(1), f32(-7));
    expect(statistics.slice('cond', 0).range).toEqual({ min: 0, max: 2 });
    expect(statistics.slice('uncond', 3).range).toEqual({ min: -7, max: 1 });
    expect(statistics.total().range).toEqual({ min: -7, max: 2 });
    expect(statistics.total().histogram.total).toBe(3);
    expect(statistics.slice('cond', 0).histogram.total).toBe(2);
  });

  it('lists slices in the same order however they were made', () => {
    const [a, b] = [new ActivationStatistics('x', 1), new ActivationStatistics('x', 1)];
    const places = [
      ['uncond', 1],
      ['cond', 10],
      ['cond', 2],
    ] as const;
    for (const [branch, bucket] of places) a.slice(branch, bucket);
    for (const [branch, bucket] of places.toReversed()) b.slice(branch, bucket);
    expect(a.slices().map(({ key }) => key)).toEqual(b.slices().map(({ key }) => key));
    expect(a.slices()).toHaveLength(3);
  });
});

describe('what was NaN or infinite', () => {
  it('is counted by channel over all tokens, and by value of the sample', () => {
    const slice = new SliceStatistics(3);
    expect(slice.nonFinite).toEqual({ channels: 0, ofChannels: 3, samples: 0, nonFinite: 0 });
    const most = 3.4028234663852886e38;
    slice.add(
      f32(-most, Number.NaN, 0),
      f32(most, Number.NaN, 0),
      f32(1, Number.NaN, 0, 2, Number.POSITIVE_INFINITY, 1),
    );
    expect(slice.nonFinite).toEqual({ channels: 1, ofChannels: 3, samples: 6, nonFinite: 2 });
    expect(nonFiniteText(slice.nonFinite)).toBe('in 1 of 3 channels, 2 of 6 sampled values (33.33 %)');
  });

  it('is never a share of 0 % of something', () => {
    const text = (nonFinite: number): string => nonFiniteText({ channels: 1, ofChannels: 8, samples: 1e6, nonFinite });
    expect(text(1)).toMatch(/\(below 0\.01 %\)$/);
    expect(text(0)).toMatch(/\(0\.00 %\)$/);
  });
});

describe('bucketOf', () => {
  it.each([
    [0, 4, 0],
    [0.2499, 4, 0],
    [0.25, 4, 1],
    [0.999, 4, 3],
    [1, 4, 3],
    [1.01, 4, 3],
    [-0.01, 4, 0],
    [0.7, 1, 0],
  ])('puts sigma %d of %i buckets into bucket %i', (sigma, buckets, bucket) => {
    expect(bucketOf(sigma, buckets)).toBe(bucket);
  });
});
