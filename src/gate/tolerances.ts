import { quantity } from './figure.js';

/** How much worse a metric may get: in its unit, or as a share of what it was. */
export type Tolerance = { readonly absolute: number } | { readonly relative: number };

/**
 * Tolerances of metrics that are compared without being asked for. They swallow what other kernels of the same arithmetic do (AVX2 instead of AVX-512 moves the
 * SQNR of a quantized model by about 0.1 dB), and no more than that where a metric is steady. Free runs (PSNR, SSIM, drift, flicker) diverge by
 * themselves, and costs depend on the machine: neither is here.
 */
const DEFAULTS: ReadonlyMap<string, Tolerance> = new Map([
  ['psnr_drop', { absolute: 0.1 }],
  ['psnr_drop_max', { absolute: 0.5 }],
  ['fvd_growth', { absolute: 5 }],
  ['linear_excess', { absolute: 1 }],
  ['linear_sqnr_min', { absolute: 1 }],
  ['scale_ratio_max', { relative: 0.05 }],
  ...['sqnr', 'text_encoder_sqnr', 'pipeline_sqnr', 'embedding_sqnr'].flatMap((name): [string, Tolerance][] => [
    [name, { absolute: 0.5 }],
    [`${name}_min`, { absolute: 1 }],
  ]),
  ['vae_encoder_sqnr', { absolute: 0.5 }],
  ['vae_decoder_psnr', { absolute: 0.5 }],
  ['vae_decoder_psnr_min', { absolute: 1 }],
  ['size_ratio', { relative: 0.01 }],
]);

export function defaultTolerance(metric: string): Tolerance | undefined {
  return DEFAULTS.get(metric);
}

/** In the metric's unit. What was infinite has no share. */
export function allowance(tolerance: Tolerance, was: number): number {
  if ('absolute' in tolerance) return tolerance.absolute;
  return Number.isFinite(was) ? tolerance.relative * Math.abs(was) : 0;
}

export function toleranceText(tolerance: Tolerance | 'off' | undefined, unit: string): string {
  if (tolerance === undefined || tolerance === 'off') return 'not compared';
  return 'absolute' in tolerance
    ? quantity(tolerance.absolute, unit)
    : `${Number((100 * tolerance.relative).toPrecision(6))} %`;
}
