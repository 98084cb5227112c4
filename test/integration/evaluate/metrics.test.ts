import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { featureStatistics, frechetDistance } from '../../../src/evaluate/metrics/frechet.js';
import { psnr } from '../../../src/evaluate/metrics/psnr.js';
import { ssim } from '../../../src/evaluate/metrics/ssim.js';
import type { Video } from '../../../src/pipeline/vae.js';
import { readSafetensors, type SafeTensor } from '../../../src/util/safetensors.js';
import { ROOT } from '../../helpers/fixtures.js';

interface Expected {
  videos: { name: string; psnr: number; ssim: number }[];
  features: { name: string; frechet: number }[];
}

/** Made by fixtures/golden-metrics/make.py with scikit-image and scipy. */
const { tensors, metadata } = await readSafetensors(
  path.join(ROOT, 'fixtures', 'golden-metrics', 'metrics.safetensors'),
);
const expected: Expected = JSON.parse(metadata.expected as string);

function tensor(name: string): SafeTensor {
  const found = tensors.get(name);
  if (!found) throw new Error(`no ${name} in the golden file`);
  return found;
}

function video(name: string): Video {
  const { shape, data } = tensor(name);
  const [frames, height, width] = shape as [number, number, number];
  return { data: data as Uint8Array, frames, height, width };
}

function rows(name: string): Float64Array[] {
  const { shape, data } = tensor(name);
  const [count, dim] = shape as [number, number];
  return Array.from({ length: count }, (_, i) => (data as Float64Array).subarray(i * dim, (i + 1) * dim));
}

function expectRelative(actual: number, wanted: number, tolerance: number): void {
  expect(Math.abs(actual - wanted)).toBeLessThanOrEqual(tolerance * (Math.abs(wanted) || 1));
}

describe.each(expected.videos)('scikit-image on videos: $name', (golden) => {
  const reference = video(`${golden.name}/reference`);
  const other = video(`${golden.name}/other`);

  it('has the same PSNR', () => {
    expectRelative(psnr(reference.data, other.data), golden.psnr, 1e-9);
  });

  it('has the same SSIM', () => {
    expectRelative(ssim(reference, other), golden.ssim, 1e-7);
  });
});

it.each(expected.features)('has the Frechet distance that scipy finds: $name', ({ name, frechet }) => {
  const reference = featureStatistics(rows(`${name}/reference`));
  const other = featureStatistics(rows(`${name}/other`));
  expectRelative(frechetDistance(reference, other), frechet, 1e-6);
});
