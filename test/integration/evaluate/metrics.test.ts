import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { FrechetTruth, featureStatistics, frechetDistance } from '../../../src/evaluate/metrics/frechet.js';
import { kernelDistance } from '../../../src/evaluate/metrics/kernel.js';
import { msSsim } from '../../../src/evaluate/metrics/ms-ssim.js';
import { psnr } from '../../../src/evaluate/metrics/psnr.js';
import { ssim } from '../../../src/evaluate/metrics/ssim.js';
import { temporalDifference } from '../../../src/evaluate/metrics/temporal.js';
import type { Video } from '../../../src/pipeline/vae.js';
import { readSafetensors, type SafeTensor } from '../../../src/util/safetensors.js';
import { ROOT } from '../../helpers/fixtures.js';

interface Expected {
  videos: { name: string; psnr: number; ssim: number; temporal_psnr?: number }[];
  tiled: { name: string; rows: number; columns: number; ms_ssim: number; scales: number }[];
  features: { name: string; frechet: number; kernel: number }[];
}

/** Made by fixtures/golden-metrics/make.py with scikit-image, pytorch-msssim, scipy and scikit-learn. */
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

/** A video beside and below itself. */
function tiled(one: Video, rows: number, columns: number): Video {
  const [height, width] = [one.height * rows, one.width * columns];
  const data = new Uint8Array(one.frames * height * width * 3);
  const line = one.width * 3;
  for (let y = 0; y < one.frames * height; y++) {
    const frame = Math.floor(y / height);
    const from = (frame * one.height + ((y % height) % one.height)) * line;
    for (let c = 0; c < columns; c++) data.set(one.data.subarray(from, from + line), (y * columns + c) * line);
  }
  return { frames: one.frames, height, width, data };
}

function features(name: string): (Float32Array | Float64Array)[] {
  const { shape, data } = tensor(name);
  const [count, dim] = shape as [number, number];
  const values = data as Float32Array | Float64Array;
  return Array.from({ length: count }, (_, i) => values.subarray(i * dim, (i + 1) * dim));
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

describe.each(expected.videos.filter((row) => row.temporal_psnr !== undefined))(
  'scikit-image on frame differences: $name',
  (golden) => {
    it('has the same PSNR', () => {
      const measured = temporalDifference(video(`${golden.name}/reference`), video(`${golden.name}/other`));
      expectRelative(measured?.psnr as number, golden.temporal_psnr as number, 1e-9);
    });
  },
);

describe.each(expected.tiled)('multi-scale SSIM of $rows x $columns tiles: $name', (golden) => {
  const [reference, other] = ['reference', 'other'].map((which) =>
    tiled(video(`${golden.name}/${which}`), golden.rows, golden.columns),
  ) as [Video, Video];

  it(`is that of pytorch-msssim, and of NumPy below five scales: here ${golden.scales}`, () => {
    const { value, scales } = msSsim(reference, other);
    expect(scales).toBe(golden.scales);
    expectRelative(value, golden.ms_ssim, 1e-9);
  });

  it('comes with SSIM', () => {
    expectRelative(msSsim(reference, other).ssim, ssim(reference, other), 1e-12);
  });
});

describe.each(expected.features)('distances of features: $name', ({ name, frechet, kernel }) => {
  const [reference, other] = [features(`${name}/reference`), features(`${name}/other`)];

  it('has the Frechet distance that scipy finds', () => {
    const [a, b] = [featureStatistics(reference), featureStatistics(other)];
    expectRelative(frechetDistance(a, b), frechet, 1e-6);
    expectRelative(frechetDistance(b, a), frechet, 1e-6);
    expectRelative(new FrechetTruth(a).influences(other).distance, frechet, 1e-6);
  });

  it("has the kernel distance of scikit-learn's polynomial kernel", () => {
    expectRelative(kernelDistance(reference, other), kernel, 1e-9);
    expectRelative(kernelDistance(other, reference), kernel, 1e-9);
  });
});
