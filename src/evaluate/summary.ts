import { cosine, mean, median, sqnr } from '../numerics/stats.js';
import type { Metric, Results } from '../report/results.js';
import type { FvdOutcome } from './fvd.js';
import type { StepError } from './runs.js';

export function qualityMetrics(
  errors: readonly StepError[],
  psnrDrop: Results['psnrDrop'],
  videos: Results['videos'],
): Record<string, Metric> {
  const figures = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
  const metric = (values: number[], unit: string, better: 'lower' | 'higher', of = mean): Metric => ({
    value: values.length > 0 ? of(values) : null,
    unit,
    better,
    n: values.length,
  });
  const drops = figures(psnrDrop.map(({ drop }) => drop));
  // One figure for each step, branch and take, as peers report it.
  const ratios = errors.flatMap((row) => row.errors.map(sqnr));
  const cosines = errors.flatMap((row) => row.errors.map(cosine));
  const least = (values: readonly number[]): number => Math.min(...values);
  const most = (values: readonly number[]): number => Math.max(...values);
  return {
    psnr_drop: metric(drops, 'dB', 'lower'),
    psnr_drop_max: metric(drops, 'dB', 'lower', most),
    sqnr: metric(ratios, 'dB', 'higher'),
    sqnr_min: metric(ratios, 'dB', 'higher', least),
    cosine_min: metric(cosines, '', 'higher', least),
    psnr: metric(figures(videos.map((video) => video.psnr)), 'dB', 'higher'),
    psnr_median: metric(figures(videos.map((video) => video.psnr)), 'dB', 'higher', median),
    psnr_floor: metric(figures(videos.map((video) => video.floorPsnr)), 'dB', 'higher'),
    ssim: metric(figures(videos.map((video) => video.ssim)), '', 'higher'),
    ssim_floor: metric(figures(videos.map((video) => video.floorSsim)), '', 'higher'),
  };
}

export function fvdMetrics(fvd: FvdOutcome | undefined): Record<string, Metric> {
  const missing = (note: string, n: number): Metric => ({ value: null, unit: '', better: 'lower', n, note });
  if (!fvd) {
    const note = 'no feature network was given (--features)';
    return { fvd_reference: missing(note, 0), fvd_quantized: missing(note, 0), fvd_growth: missing(note, 0) };
  }
  const { n, dim, reference, quantized } = fvd;
  if (n <= dim) {
    const note = `not meaningful: ${n} videos cannot span ${dim} features; give more prompts or seeds`;
    return { fvd_reference: missing(note, n), fvd_quantized: missing(note, n), fvd_growth: missing(note, n) };
  }
  const value = (figure: number, unit: string): Metric => ({ value: figure, unit, better: 'lower', n });
  return {
    fvd_reference: value(reference, ''),
    fvd_quantized: value(quantized, ''),
    fvd_growth: value(100 * (quantized / reference - 1), '%'),
  };
}

export function costMetrics(reference: Results['reference'], quantized: Results['quantized']): Record<string, Metric> {
  const ratio = (a: number, b: number): Metric => ({ value: a / b, unit: 'x', better: 'lower', n: 1 });
  return {
    size_ratio: ratio(quantized.transformerBytes, reference.transformerBytes),
    memory_ratio: ratio(quantized.peakBytes, reference.peakBytes),
    latency_ratio: ratio(quantized.forwardMs, reference.forwardMs),
  };
}
