import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CenteredBins } from '../../../../src/numerics/histogram.js';
import { mseThreshold } from '../../../../src/numerics/thresholds/mse.js';
import { candidateWindows, type Kept, magnitudes, signed } from './bins.js';

/** Rounding error step^2 / 12 of every sample kept, squared distance to the edge of every sample clipped; bin widths. */
function expectedError({ counts, center }: CenteredBins, { from, to }: Kept, levels: number): number {
  const step = (to - from) / levels;
  let error = 0;
  counts.forEach((count, i) => {
    const distance = i < from ? from - (i + 0.5) : i >= to ? i + 0.5 - to : undefined;
    error += count * (distance === undefined ? step ** 2 / 12 : distance ** 2);
  });
  expect(from).toBeLessThanOrEqual(center);
  return error;
}

describe.each([
  { form: 'magnitudes', levels: 127, bins: magnitudes(100, 330) },
  { form: 'signed bins', levels: 255, bins: signed(220, 600) },
])('the MSE threshold over $levels levels of $form', ({ levels, bins }) => {
  it('has the least expected squared error of all candidates', () => {
    fc.assert(
      fc.property(bins, (histogram) => {
        const all = candidateWindows(histogram, levels).map((window) => ({
          k: window.k,
          error: expectedError(histogram, window, levels),
        }));
        const { k, candidates } = mseThreshold(histogram, levels);
        const least = Math.min(...all.map(({ error }) => error));
        const chosen = all.find((window) => window.k === k)?.error;
        expect(chosen).toBeDefined();
        expect(chosen).toBeLessThanOrEqual(least * (1 + 1e-9));
        expect(candidates).toBe(all.length);
      }),
      { numRuns: 60 },
    );
  });
});
