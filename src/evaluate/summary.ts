import { meanInterval } from '../numerics/bootstrap.js';
import { cosine, type Difference, mean, median, relativeError, sqnr } from '../numerics/stats.js';
import type { LinearRow, Metric, Results } from '../report/results.js';
import type { ReferenceSet } from './features.js';
import { FrechetTruth } from './metrics/frechet.js';
import { frechetGrowth, type PairedFeatures } from './metrics/frechet-growth.js';
import { kernelDistance } from './metrics/kernel.js';
import type { StepError } from './runs.js';
import type { ComparedVideos } from './stages/videos.js';

/** A measured number and the prompt or clip that it hangs on. */
interface Sample {
  readonly unit: number;
  readonly value: number | null;
}

type Better = 'lower' | 'higher';

/** The mean of samples, with an interval over their units. Those that were not measured are left out. */
function meanMetric(samples: readonly Sample[], unit: string, better: Better): Metric {
  const measured = samples.flatMap(({ unit: of, value }) => (value === null ? [] : [{ unit: of, value }]));
  const values = measured.map(({ value }) => value);
  if (values.length === 0) return { value: null, unit, better, n: 0 };
  const interval = meanInterval(measured);
  const worst = better === 'lower' ? Math.max(...values) : Math.min(...values);
  return {
    ...{ value: mean(values), unit, better, n: values.length },
    ...(interval ? { interval } : {}),
    ...{ median: median(values), worst },
  };
}

function single(value: number | null, unit: string, better: Better, n: number): Metric {
  return { value: n === 0 ? null : value, unit, better, n };
}

/** @param promptOf position of the prompt of a take */
export function qualityMetrics(
  errors: readonly StepError[],
  { psnrDrop, videos }: Pick<ComparedVideos, 'psnrDrop' | 'videos'>,
  promptOf: (take: number) => number,
): Record<string, Metric> {
  const drops = psnrDrop.map(({ clip, drop }) => ({ unit: clip, value: drop }));
  const drop = meanMetric(drops, 'dB', 'lower');
  // One figure for each step, branch and take, as peers report it.
  const ofSteps = (of: (error: Difference) => number): Sample[] =>
    errors.flatMap((row) => row.errors.map((error, take) => ({ unit: promptOf(take), value: of(error) })));
  const ratio = meanMetric(ofSteps(sqnr), 'dB', 'higher');
  const angle = meanMetric(ofSteps(cosine), '', 'higher');
  const ofVideos = (
    key: 'psnr' | 'ssim' | 'msSsim' | 'temporalPsnr' | 'floorPsnr' | 'floorSsim',
    unit: string,
  ): Metric =>
    meanMetric(
      videos.map((video, take) => ({ unit: promptOf(take), value: video[key] })),
      unit,
      'higher',
    );
  const psnr = ofVideos('psnr', 'dB');
  const temporal = videos.map(({ flicker }, take) => ({ unit: promptOf(take), value: flicker }));
  const lpips = videos.map((video, take) => ({ unit: promptOf(take), value: video.lpips }));
  return {
    psnr_drop: drop,
    psnr_drop_max: single(drop.worst ?? null, 'dB', 'lower', drop.n),
    sqnr: ratio,
    sqnr_min: single(ratio.worst ?? null, 'dB', 'higher', ratio.n),
    cosine_min: single(angle.worst ?? null, '', 'higher', angle.n),
    psnr,
    psnr_median: single(psnr.median ?? null, 'dB', 'higher', psnr.n),
    psnr_floor: ofVideos('floorPsnr', 'dB'),
    ssim: ofVideos('ssim', ''),
    ssim_floor: ofVideos('floorSsim', ''),
    ms_ssim: ofVideos('msSsim', ''),
    temporal_psnr: ofVideos('temporalPsnr', 'dB'),
    // Neither more nor less motion than the reference is better.
    flicker_ratio: { ...meanMetric(temporal, 'x', 'lower'), better: null },
    ...(lpips.some(({ value }) => value !== null) ? { lpips: meanMetric(lpips, '', 'lower') } : {}),
  };
}

/** Of the distance from the reference's chains after the last step. */
export function latentDrift(
  name: string,
  takes: readonly (readonly Difference[])[] | undefined,
  promptOf: (take: number) => number,
): Record<string, Metric> {
  if (!takes) return {};
  const last = takes.flatMap((distances, take) => {
    const distance = distances.at(-1);
    return distance ? [{ unit: promptOf(take), value: relativeError(distance) }] : [];
  });
  return { [name]: meanMetric(last, '', 'lower') };
}

/** Metrics that come of holding each linear by itself, which takes longer than all others together. */
export const LINEAR_METRICS: readonly string[] = ['linear_excess', 'linear_sqnr_min', 'scale_ratio_max'];

/** Of linears that are quantized as much as of those that are not: none may do worse than INT8 has to. */
export function linearMetrics(rows: readonly LinearRow[]): Record<string, Metric> {
  const told = rows.flatMap(({ excess }) => excess ?? []);
  const ratios = rows.flatMap(({ sqnr: ratio, excess }) => (excess === null || ratio === null ? [] : [ratio]));
  const scales = rows.flatMap(({ scaleRatio }) => scaleRatio ?? []);
  const off = scales.map((scale) => Math.max(scale, 1 / scale));
  const none =
    rows.length === 0
      ? { note: 'no linear of the reference was found in the quantized transformer' }
      : told.length === 0
        ? { note: 'its weights are not the reference’s: give those it was fine-tuned to (--weights)' }
        : {};
  return {
    linear_excess: { ...single(Math.max(0, ...told), 'dB', 'lower', told.length), ...none },
    linear_sqnr_min: { ...single(Math.min(...ratios), 'dB', 'higher', ratios.length), ...none },
    scale_ratio_max: {
      ...{ value: Math.max(1, ...off), unit: 'x', better: 'lower', n: rows.length },
      ...(off.length === 0 ? { note: 'no scale of the model is in a plan: there was nothing to compare' } : {}),
    },
  };
}

/** @param prompts of each take, by position */
export function distributionMetrics(
  features: PairedFeatures | undefined,
  truth: ReferenceSet | undefined,
  prompts: readonly number[],
): Record<string, Metric> {
  const n = prompts.length;
  const missing = (names: readonly string[], note: string, of = n): Record<string, Metric> =>
    Object.fromEntries(names.map((name) => [name, { value: null, unit: '', better: 'lower' as const, n: of, note }]));
  const frechet = ['fvd_reference', 'fvd_quantized', 'fvd_growth'];
  if (!features || !truth) return missing(frechet, 'no feature network was given (--features)', 0);
  const value = (figure: number, unit: string): Metric => ({ value: figure, unit, better: 'lower', n });
  const dim = truth.mean.length;
  return { ...distances(), ...kernels() };

  function distances(): Record<string, Metric> {
    if (n <= dim) {
      const note = `not meaningful: ${n} videos cannot span ${dim} features; give more prompts or seeds`;
      return missing(frechet, note);
    }
    const { reference, quantized, growth, interval } = frechetGrowth(
      new FrechetTruth(truth as ReferenceSet),
      features as NonNullable<typeof features>,
      prompts,
    );
    const percent = interval && {
      ...interval,
      ...{ low: 100 * interval.low, high: 100 * interval.high, units: new Set(prompts).size },
    };
    return {
      fvd_reference: value(reference, ''),
      fvd_quantized: value(quantized, ''),
      fvd_growth: { ...value(100 * growth, '%'), ...(percent ? { interval: percent } : {}) },
    };
  }

  function kernels(): Record<string, Metric> {
    const set = truth?.features;
    if (!set) return {};
    if (n < 2) return missing(['kvd_reference', 'kvd_quantized'], 'one video has no spread');
    const { reference, quantized } = features as NonNullable<typeof features>;
    return {
      kvd_reference: value(kernelDistance(reference, set), ''),
      kvd_quantized: value(kernelDistance(quantized, set), ''),
    };
  }
}

export function costMetrics(reference: Results['reference'], quantized: Results['quantized']): Record<string, Metric> {
  const ratio = (a: number, b: number): Metric => ({ value: a / b, unit: 'x', better: 'lower', n: 1 });
  return {
    size_ratio: ratio(quantized.transformerBytes, reference.transformerBytes),
    memory_ratio: ratio(quantized.peakBytes, reference.peakBytes),
    latency_ratio: ratio(quantized.forwardMs, reference.forwardMs),
  };
}
