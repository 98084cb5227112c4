import type { Metric } from './results.js';

/** Metrics in the order people read them, with what they are called. */
const METRIC_TITLES: Readonly<Record<string, string>> = {
  psnr_drop: 'PSNR drop on re-noised clips',
  psnr_drop_max: 'largest drop of a clip and sigma',
  fvd_growth: 'FVD growth',
  fvd_reference: 'FVD, reference model',
  fvd_quantized: 'FVD, quantized model',
  kvd_reference: 'KVD, reference model',
  kvd_quantized: 'KVD, quantized model',
  sqnr: 'teacher-forced SQNR',
  sqnr_min: 'teacher-forced SQNR, worst step',
  cosine_min: 'teacher-forced cosine, worst step',
  linear_excess: 'largest error of a linear beyond rounding',
  linear_sqnr_min: 'SQNR of a linear by itself, worst',
  scale_ratio_max: 'largest deviation of a scale from the plan',
  psnr: 'free-running PSNR, mean',
  psnr_median: 'free-running PSNR, median',
  psnr_floor: 'noise floor PSNR, mean',
  ssim: 'free-running SSIM',
  ssim_floor: 'noise floor SSIM',
  ms_ssim: 'free-running MS-SSIM',
  temporal_psnr: 'free-running PSNR of frame differences',
  flicker_ratio: 'change from frame to frame',
  lpips: 'free-running perceptual distance',
  latent_drift: 'latent drift after the last step',
  latent_drift_floor: 'noise floor latent drift',
  embedding_sqnr: 'text encoder alone: SQNR of embeddings',
  embedding_sqnr_min: 'text encoder alone: SQNR of embeddings, worst prompt',
  embedding_cosine_min: 'text encoder alone: cosine of embeddings, worst prompt',
  text_encoder_sqnr: 'text encoder alone: teacher-forced SQNR',
  text_encoder_sqnr_min: 'text encoder alone: teacher-forced SQNR, worst step',
  vae_decoder_psnr: 'VAE decoder alone: PSNR',
  vae_decoder_psnr_min: 'VAE decoder alone: PSNR, worst video',
  vae_encoder_sqnr: 'VAE encoder alone: SQNR of latents',
  pipeline_sqnr: 'whole pipeline: teacher-forced SQNR',
  pipeline_sqnr_min: 'whole pipeline: teacher-forced SQNR, worst step',
  pipeline_psnr: 'whole pipeline: free-running PSNR, mean',
  pipeline_psnr_median: 'whole pipeline: free-running PSNR, median',
  pipeline_ssim: 'whole pipeline: free-running SSIM',
  size_ratio: 'transformer bytes on disk',
  memory_ratio: 'peak memory',
  latency_ratio: 'latency of a forward',
  int8_speed_bound: 'speed-up bound at 2x INT8',
};

/** Metrics that were asked for, in reading order. */
export function titledMetrics(
  metrics: Readonly<Record<string, Metric>>,
): { name: string; title: string; metric: Metric }[] {
  return Object.entries(METRIC_TITLES).flatMap(([name, title]) => {
    const metric = metrics[name];
    return metric ? [{ name, title, metric }] : [];
  });
}

/** @returns a figure with its unit; what was not measured as a dash */
export function formatMetric({ value, unit }: Pick<Metric, 'value' | 'unit'>): string {
  if (value === null) return '-';
  const digits = unit === 'dB' || unit === '%' ? 2 : 4;
  const figure = Number.isFinite(value) ? value.toFixed(digits).replace(/^-(0\.0+)$/, '$1') : String(value);
  return unit === '' ? figure : `${figure} ${unit}`;
}

/** The interval of a metric; empty where there is none. */
export function formatInterval({ interval, unit }: Pick<Metric, 'interval' | 'unit'>): string {
  if (!interval) return '';
  const [low, high] = [interval.low, interval.high].map((value) =>
    formatMetric({ value, unit: unit === 'dB' || unit === '%' ? unit : '' }),
  );
  return `${low?.replace(/ .*$/, '')} .. ${high?.replace(/ .*$/, '')}`;
}

/** Decimal units, as disks are sold. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  // 999,999 would round to 1000.00 kB.
  while (unit < units.length - 1 && Number(value.toFixed(2)) >= 1000) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(unit === 0 ? 0 : 2)} ${units[unit]}`;
}

/** 1:02:03, or 2:03 below an hour. */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
