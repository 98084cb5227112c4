import { findLinears, type Linear } from '../analyze/linears.js';
import { HeldTokens, readCalibration } from '../calibrate/file.js';
import type { ActivationStatistics } from '../calibrate/statistics.js';
import type { Model } from '../ir/graph.js';
import type { TensorSource } from '../ir/tensor.js';
import { Histogram } from '../numerics/histogram.js';
import { smoothingFactors } from '../numerics/smoothing.js';
import { NORMALIZE } from '../passes/normalize.js';
import { runPasses } from '../passes/pass.js';
import type { TensorHistogram } from '../report/histograms.js';
import { WeightSample } from './fit/weight-sample.js';
import { type PlanEntry, type PlanFile, planKeys } from './plan-file.js';
import { isInt8 } from './precision.js';
import { TARGET_TRAITS } from './target.js';

/** A browser draws a bin some pixels wide. */
const MOST_BINS = 128;

export interface ModelWithWeights extends TensorSource {
  readonly model: Model;
}

export interface HistogramSources {
  /** Path of the calibration file. */
  readonly calibration: string;
  /** That the calibration gave. */
  readonly plan: PlanFile;
  /**
   * The transformer that was quantized; its graph is normalised. Its weights are part of what smoothed activations are divided by: without it
   * their histograms are of the values before smoothing, and without ranges.
   */
  readonly model?: ModelWithWeights | undefined;
}

/** Linears that read one activation and quantize it alike. */
interface Reading {
  readonly value: string;
  readonly keys: string[];
  readonly linears: Linear[];
  readonly entry: PlanEntry | undefined;
}

/**
 * Histograms of all activations of a calibration, with the ranges that a plan quantizes: of all samples, or of the kept tokens where they are
 * smoothed.
 *
 * @throws WanqError CALIBRATION_INVALID, SAFETENSORS_INVALID, NOT_FOUND
 */
export async function tensorHistograms({ calibration, plan, model }: HistogramSources): Promise<TensorHistogram[]> {
  const { activations } = await readCalibration(calibration, { held: false });
  const tokens = await HeldTokens.open(calibration);
  try {
    const readings = readingsOf(plan, model);
    const histograms: TensorHistogram[] = [];
    for (const statistics of activations) {
      const { value } = statistics;
      for (const reading of readings.get(value) ?? [{ value, keys: [], linears: [], entry: undefined }]) {
        histograms.push(await histogramOf(statistics, reading, { plan, model, tokens }));
      }
    }
    return histograms;
  } finally {
    await tokens.close();
  }
}

function readingsOf(plan: PlanFile, model: ModelWithWeights | undefined): Map<string, Reading[]> {
  if (model) runPasses(model.model, NORMALIZE);
  const linears = model ? findLinears(model.model.graph) : [];
  const known = model
    ? planKeys(linears).map((key, i) => ({ key, linear: linears[i] as Linear, entry: plan.linears[key] }))
    : Object.entries(plan.linears).map(([key, entry]) => ({ key, linear: undefined, entry }));
  const readings = new Map<string, Reading>();
  for (const { key, linear, entry } of known) {
    const value = linear?.activation ?? entry?.input;
    if (value === undefined) continue;
    const quantized = entry && isInt8(entry.precision) ? entry : undefined;
    const alike = JSON.stringify([
      value,
      quantized && [quantized.precision, quantized.smooth, quantized.low, quantized.high],
    ]);
    const reading = readings.get(alike) ?? { value, keys: [], linears: [], entry: quantized };
    reading.keys.push(key);
    if (linear) reading.linears.push(linear);
    readings.set(alike, reading);
  }
  const byValue = new Map<string, Reading[]>();
  for (const reading of readings.values()) byValue.set(reading.value, [...(byValue.get(reading.value) ?? []), reading]);
  return byValue;
}

interface Context {
  readonly plan: PlanFile;
  readonly model: ModelWithWeights | undefined;
  readonly tokens: HeldTokens;
}

async function histogramOf(
  statistics: ActivationStatistics,
  { value, keys, linears, entry }: Reading,
  { plan, model, tokens }: Context,
): Promise<TensorHistogram> {
  const total = statistics.total();
  const whole = { tensor: value, linears: keys, ...total.range, ...binned(total.histogram) };
  const without = (note: string): TensorHistogram => ({ ...whole, low: null, high: null, clipped: null, note });
  if (!entry || entry.precision === 'int8-weights') return without('Of all samples. It is not quantized.');
  if (entry.precision === 'int8-dynamic') return without('Of all samples. Each token has a range of its own.');
  const { smooth, low, high } = entry;
  if (low === undefined || high === undefined) return without('Of all samples. The plan does not say its range.');
  // A symmetric scale covers the larger end on both sides.
  const end = Math.max(Math.abs(low), Math.abs(high));
  const range = TARGET_TRAITS[plan.target].activation === 'int8' ? { low: -end, high: end } : { low, high };
  const clippedOf = (histogram: Histogram): number => histogram.shareOutside(range.low, range.high);
  if (smooth === undefined || smooth === 'none') {
    return { ...whole, ...range, clipped: clippedOf(total.histogram), note: 'Of all samples.' };
  }
  const held = model && typeof smooth === 'number' ? await tokens.read(value) : undefined;
  if (!model || typeof smooth !== 'number' || !held?.size) {
    return without(
      'Of all samples, before smoothing. The range that is quantized is of smoothed values, and so is not drawn.',
    );
  }
  const { channelMin, channelMax } = total;
  const magnitudes = channelMax.map((max, k) => Math.max(max, -(channelMin[k] as number)));
  const factors = smoothingFactors(magnitudes, (await WeightSample.read(linears, model)).channelMax, smooth);
  const divided = (values: Float32Array): Float32Array =>
    values.map((x, i) => x / (factors[i % factors.length] as number));
  const histogram = new Histogram();
  for (const rows of held.values()) histogram.add(divided(rows));
  return {
    ...whole,
    ...range,
    min: divided(channelMin).reduce((a, b) => Math.min(a, b)),
    max: divided(channelMax).reduce((a, b) => Math.max(a, b)),
    ...binned(histogram),
    clipped: clippedOf(histogram),
    note: `After smoothing of strength ${smooth}, of the kept tokens.`,
  };
}

/** Neighbouring bins merged, so that there are no more than can be drawn. */
function binned(histogram: Histogram): Pick<TensorHistogram, 'counts' | 'from' | 'to'> {
  const { first, exponent, counts } = histogram.toJSON();
  const merged = Math.max(1, Math.ceil(counts.length / MOST_BINS));
  const width = 2 ** exponent;
  const bins = Array.from({ length: Math.ceil(counts.length / merged) }, (_, i) =>
    counts.subarray(i * merged, (i + 1) * merged).reduce((sum, count) => sum + count, 0),
  );
  return { counts: bins, from: first * width, to: (first + bins.length * merged) * width };
}
