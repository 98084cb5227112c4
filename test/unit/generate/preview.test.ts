import { expect, it } from 'vitest';
import { estimateFinished } from '../../../src/generate/preview.js';
import { randn } from '../../../src/numerics/rng.js';

it('finds the clip that noise was added to, from the true velocity', () => {
  const clip = randn(1, 64);
  const noise = randn(2, 64);
  const sigma = 0.7;
  const sample = clip.map((x, i) => (1 - sigma) * x + sigma * (noise[i] as number));
  const velocity = clip.map((x, i) => (noise[i] as number) - x);
  const found = estimateFinished({ sample, velocity }, sigma);
  for (const [i, x] of clip.entries()) expect(found[i]).toBeCloseTo(x, 5);
});
