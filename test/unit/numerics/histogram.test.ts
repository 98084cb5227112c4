import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CenteredBins,
  Histogram,
  type HistogramData,
  magnitudeBins,
  signedBins,
} from '../../../src/numerics/histogram.js';
import { anyFloat, finiteFloat } from '../helpers/floats.js';

function histogramOf(samples: readonly number[]): Histogram {
  const histogram = new Histogram();
  histogram.add(Float32Array.from(samples));
  return histogram;
}

/** All of a histogram in a form that compares fast. */
function contents(histogram: Histogram): object {
  const { counts, ...rest } = histogram.toJSON();
  return { ...rest, bins: counts.length, counts: Buffer.from(counts.buffer).toString('latin1') };
}

/** Merges a list down to one histogram, the pair and the way of merging taken from `picks`. */
function mergeInSomeOrder(parts: Histogram[], picks: readonly number[]): Histogram {
  const left = [...parts];
  for (let step = 0; left.length > 1; step++) {
    const pick = picks[step % picks.length] as number;
    const [first] = left.splice(pick % left.length, 1) as [Histogram];
    const [second] = left.splice((pick >> 8) % left.length, 1) as [Histogram];
    const into = [first, new Histogram(), Histogram.from(first.toJSON())][pick % 3] as Histogram;
    if (pick % 3 === 1) into.merge(first);
    into.merge(second);
    left.push(into);
  }
  return left[0] ?? new Histogram();
}

const split = fc.array(anyFloat(), { maxLength: 40 }).chain((samples) =>
  fc.record({
    samples: fc.constant(samples),
    shuffled: fc.shuffledSubarray(samples, { minLength: samples.length }),
    cuts: fc.array(fc.nat({ max: samples.length }), { maxLength: 6 }),
    picks: fc.array(fc.nat({ max: 0xffff }), { minLength: 1, maxLength: 8 }),
  }),
);

describe('Histogram', () => {
  it('is the same for every order, split and merge tree of the same samples', () => {
    fc.assert(
      fc.property(split, ({ samples, shuffled, cuts, picks }) => {
        const bounds = [0, ...cuts.sort((a, b) => a - b), shuffled.length];
        const batches = bounds.slice(1).map((end, i) => shuffled.slice(bounds[i], end));
        const expected = contents(histogramOf(samples));

        const inBatches = new Histogram();
        for (const batch of batches) inBatches.add(Float32Array.from(batch));
        expect(contents(inBatches)).toStrictEqual(expected);
        expect(contents(mergeInSomeOrder(batches.map(histogramOf), picks))).toStrictEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  it('leaves the histogram that is merged in as it was', () => {
    fc.assert(
      fc.property(fc.array(anyFloat(), { maxLength: 8 }), fc.array(anyFloat(), { maxLength: 8 }), (a, b) => {
        const other = histogramOf(b);
        histogramOf(a).merge(other);
        expect(contents(other)).toStrictEqual(contents(histogramOf(b)));
      }),
    );
  });

  it('clones into an independent histogram', () => {
    const original = histogramOf([1, -2]);
    const clone = original.clone();
    clone.add(Float32Array.of(64));
    expect(contents(original)).toStrictEqual(contents(histogramOf([1, -2])));
    expect(contents(clone)).toStrictEqual(contents(histogramOf([1, -2, 64])));
  });

  it('counts every finite sample in the bin that holds it', () => {
    fc.assert(
      fc.property(fc.array(anyFloat(), { minLength: 1, maxLength: 40 }), (samples) => {
        const { exponent, first, counts } = histogramOf(samples).toJSON();
        const width = 2 ** exponent;
        counts.forEach((count, i) => {
          if (count === 0) return;
          const low = (first + i) * width;
          expect(count).toBe(samples.filter((x) => x >= low && x < low + width).length);
        });
      }),
    );
  });

  it('counts as many samples as are finite, and the rest apart', () => {
    fc.assert(
      fc.property(fc.array(anyFloat(), { maxLength: 40 }), (samples) => {
        const histogram = histogramOf(samples);
        const finite = samples.filter(Number.isFinite).length;
        expect(histogram.total).toBe(finite);
        expect(histogram.nonFinite).toBe(samples.length - finite);
      }),
    );
  });

  it('covers [0, max |x|] with 2048 to 4096 bins', () => {
    fc.assert(
      fc.property(fc.array(finiteFloat(), { minLength: 1, maxLength: 20 }), (samples) => {
        const largest = Math.max(...samples.map(Math.abs));
        fc.pre(largest > 0);
        const histogram = histogramOf(samples);
        const bins = largest / 2 ** histogram.exponent;
        expect(bins).toBeGreaterThanOrEqual(2048);
        expect(bins).toBeLessThan(4096);
        expect(histogram.toJSON().maxMagnitude).toBe(largest);
      }),
    );
  });

  it.each([2 ** 100 * (1 - 2 ** -53), 2 ** 100, 2 ** -100 * (1 + 2 ** -52)])('covers the double %d as well', (x) => {
    const histogram = new Histogram();
    histogram.add([x]);
    const bins = x / 2 ** histogram.exponent;
    expect(bins).toBeGreaterThanOrEqual(2048);
    expect(bins).toBeLessThan(4096);
  });

  it('puts zeros of both signs into bin 0', () => {
    const { first, counts } = histogramOf([0, -0, 0, 5]).toJSON();
    expect(counts[-first]).toBe(3);
  });

  it('survives toJSON and from', () => {
    fc.assert(
      fc.property(fc.array(anyFloat(), { maxLength: 20 }), fc.array(anyFloat(), { maxLength: 20 }), (a, b) => {
        const restored = Histogram.from(histogramOf(a).toJSON());
        expect(contents(restored)).toStrictEqual(contents(histogramOf(a)));
        restored.add(Float32Array.from(b));
        expect(contents(restored)).toStrictEqual(contents(histogramOf([...a, ...b])));
      }),
    );
  });
});

describe("a histogram's share outside of a range", () => {
  it('is that of the samples whose bin the range does not touch', () => {
    const samples = fc.array(fc.integer({ min: -3000, max: 3000 }), { minLength: 1, maxLength: 40 });
    const end = fc.integer({ min: -3500, max: 3500 });
    fc.assert(
      fc.property(samples, end, end, (values, a, b) => {
        // 4095.5 keeps bins one wide, and samples in the middle of theirs.
        const all = [...values.map((value) => value + 0.5), 4095.5];
        const [low, high] = [Math.min(a, b), Math.max(a, b) + 0.25];
        const outside = all.filter((x) => Math.floor(x) < low || Math.floor(x) > high).length;
        expect(histogramOf(all).shareOutside(low, high)).toBeCloseTo(outside / all.length, 12);
      }),
    );
  });

  it('is nothing of nothing, and of all that was seen', () => {
    expect(new Histogram().shareOutside(-1, 1)).toBe(0);
    fc.assert(
      fc.property(fc.array(finiteFloat(), { minLength: 1, maxLength: 20 }), (samples) => {
        const [low, high] = [Math.min(...samples), Math.max(...samples)];
        expect(histogramOf(samples).shareOutside(low, high)).toBe(0);
      }),
    );
    expect(histogramOf([3, 5]).shareOutside(-1, 1)).toBe(1);
  });
});

const possible: HistogramData = {
  exponent: -11,
  maxMagnitude: 1,
  nonFinite: 0,
  first: 2048,
  counts: Float64Array.of(3),
};

describe('Histogram.from', () => {
  it('takes what toJSON gives for three ones', () => {
    expect(histogramOf([1, 1, 1]).toJSON()).toStrictEqual(possible);
    expect(Histogram.from(possible).toJSON()).toStrictEqual(possible);
  });

  it.each<[string, Partial<HistogramData>]>([
    ['an exponent that does not belong to the largest magnitude', { exponent: -10 }],
    ['a fractional exponent', { exponent: -11.5 }],
    ['a negative magnitude', { maxMagnitude: -1 }],
    ['a magnitude that is NaN', { maxMagnitude: Number.NaN }],
    ['a fractional first bin', { first: 2047.5 }],
    ['a first bin below the lowest', { first: -4097 }],
    ['bins past the highest', { first: 4096 }],
    ['a negative count', { counts: Float64Array.of(-1) }],
    ['a fractional count', { counts: Float64Array.of(0.5) }],
    ['a count that is NaN', { counts: Float64Array.of(Number.NaN) }],
    ['a count past 2^53', { counts: Float64Array.of(2 ** 53) }],
    ['a negative number of non-finite samples', { nonFinite: -1 }],
    ['a fractional number of non-finite samples', { nonFinite: 0.5 }],
  ])('refuses %s', (_, part) => {
    expect(() => Histogram.from({ ...possible, ...part })).toThrow(RangeError);
  });

  it.each<[string, Partial<HistogramData>]>([
    ['an infinite magnitude', { maxMagnitude: Number.POSITIVE_INFINITY, exponent: Number.POSITIVE_INFINITY }],
    ['samples larger than the largest magnitude', { first: 2049 }],
    ['no sample as large as the largest magnitude', { first: 2047 }],
  ])('refuses %s', (_, part) => {
    expect(() => Histogram.from({ ...possible, ...part })).toThrow(RangeError);
  });
});

/** Count by bin number, without the empty ones. */
function occupied({ counts, center }: CenteredBins): Record<number, number> {
  return Object.fromEntries([...counts.entries()].filter(([, count]) => count > 0).map(([i, n]) => [i - center, n]));
}

describe('signedBins', () => {
  it('keeps every count at its distance from the center', () => {
    const bins = signedBins({ ...possible, first: -2, counts: Float64Array.of(7, 0, 0, 5) });
    expect(occupied(bins)).toEqual({ [-2]: 7, 1: 5 });
    expect(bins.counts).toHaveLength(4);
    expect(bins.width).toBe(2 ** -11);
  });

  it('reaches zero where all samples are on one side of it', () => {
    const positive = signedBins({ ...possible, first: 2, counts: Float64Array.of(7) });
    expect(occupied(positive)).toEqual({ 2: 7 });
    expect(positive.counts).toHaveLength(3);
    const negative = signedBins({ ...possible, first: -3, counts: Float64Array.of(7) });
    expect(occupied(negative)).toEqual({ [-3]: 7 });
    expect(negative.counts).toHaveLength(4);
  });
});

describe('magnitudeBins', () => {
  it('folds bin -i-1 onto bin i', () => {
    const bins = magnitudeBins({ ...possible, first: -3, counts: Float64Array.of(1, 2, 4, 8, 16) });
    expect(bins).toStrictEqual({ counts: Float64Array.of(4 + 8, 2 + 16, 1), center: 0, width: 2 ** -11 });
  });

  it('keeps the total', () => {
    fc.assert(
      fc.property(fc.array(finiteFloat(), { maxLength: 30 }), (samples) => {
        const { counts } = magnitudeBins(histogramOf(samples).toJSON());
        expect(counts.reduce((a, b) => a + b, 0)).toBe(samples.length);
      }),
    );
  });
});
