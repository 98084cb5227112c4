import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { percentileThreshold } from '../../../../src/numerics/thresholds/percentile.js';
import { magnitudes, signed, sum } from './bins.js';

describe('the percentile threshold', () => {
  it('keeps at least its percentage, and one bin less would not', () => {
    fc.assert(
      fc.property(fc.oneof(magnitudes(1, 60), signed(2, 60)), fc.integer({ min: 1, max: 100 }), (bins, percentile) => {
        const { counts, center } = bins;
        const kept = (k: number): number => sum(counts.slice(Math.max(center - k, 0), center + k));
        const { k } = percentileThreshold(bins, percentile);
        const needed = sum(counts) * percentile;
        expect(kept(k) * 100).toBeGreaterThanOrEqual(needed);
        if (k > 1) expect(kept(k - 1) * 100).toBeLessThan(needed);
      }),
    );
  });

  it.each([
    [99, 1],
    [99.1, 2],
    [99.9, 2],
    [99.95, 3],
    [100, 4],
  ])('of 990, 9, 0 and 1 samples keeps %d percent in %d bins', (percentile, bins) => {
    const counts = percentile === 99.95 ? [9900, 90, 9, 1] : [990, 9, 0, 1];
    expect(percentileThreshold({ counts: Float64Array.from(counts), center: 0, width: 1 }, percentile).k).toBe(bins);
  });
});
