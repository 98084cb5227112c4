import type { Report } from '../../../src/compare/reports.js';
import type { Metric, Results } from '../../../src/report/results.js';
import { sampleResults } from '../../helpers/results.js';

/** What a model gets on each video and clip; one figure is of all. */
export interface Quality {
  readonly bytes?: number;
  readonly sqnr?: readonly (number | null)[];
  readonly psnr?: readonly (number | null)[];
  readonly drop?: readonly number[];
  readonly metrics?: Readonly<Record<string, Metric>>;
}

const SIZE = { prompts: 6, steps: 3, blocks: 1, frames: 3, height: 16, width: 16 };

const mean = (values: readonly (number | null)[]): number => {
  const measured = values.flatMap((value) => value ?? []);
  return measured.reduce((a, b) => a + b, 0) / measured.length;
};

/** Results of six prompts, one clip of each; the mean of each metric is that of its samples. */
export function modelResults(name: string, { bytes, sqnr, psnr, drop, metrics }: Quality = {}): Results {
  const made = sampleResults(SIZE);
  const videos = made.videos.map((video, i) => ({
    ...video,
    ...(sqnr && { sqnr: sqnr[i] ?? null }),
    ...(psnr && { psnr: psnr[i] ?? null }),
  }));
  const psnrDrop = made.psnrDrop.map((row) => ({ ...row, drop: drop?.[row.clip] ?? row.drop }));
  const metric = (of: string, value: number): Record<string, Metric> => {
    const { interval: _, ...rest } = made.metrics[of] as Metric;
    return { [of]: { ...rest, value } };
  };
  return {
    ...made,
    quantized: {
      ...made.quantized,
      path: `models/${name}`,
      fingerprint: Buffer.from(name).toString('hex'),
      transformerBytes: bytes ?? made.quantized.transformerBytes,
    },
    videos,
    psnrDrop,
    metrics: {
      ...made.metrics,
      ...metric('size_ratio', (bytes ?? made.quantized.transformerBytes) / made.reference.transformerBytes),
      ...metric('sqnr', mean(videos.map((video) => video.sqnr))),
      ...metric('psnr', mean(videos.map((video) => video.psnr))),
      ...metric('psnr_drop', mean(psnrDrop.map((row) => row.drop))),
      ...metrics,
    },
  };
}

export function modelReport(name: string, quality: Quality = {}): Report {
  return reportOf(modelResults(name, quality));
}

export function reportOf(results: Results): Report {
  const folder = `reports/${results.quantized.path.replace(/^.*\//, '')}`;
  return { path: folder, page: `${folder}/report.html`, results };
}

/** Prompts that are easy and hard, and models that all find them so. */
export const HARD: readonly number[] = [20, 26, 32, 38, 44, 50];

export const plus = (values: readonly number[], ...more: number[]): number[] =>
  values.map((value, i) => value + (more[i % more.length] as number));
