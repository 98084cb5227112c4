import { FOLDS } from '../../calibrate/held.js';
import { type ActivationStatistics, ChannelExtremes } from '../../calibrate/statistics.js';
import { concatenated } from '../../numerics/concatenated.js';
import { Histogram, type HistogramData } from '../../numerics/histogram.js';
import { activationScale } from '../../numerics/int8.js';
import { outputEnergy, outputError } from '../../numerics/output-error.js';
import { smoothingFactors } from '../../numerics/smoothing.js';
import { type ChosenRange, chooseRange, type ThresholdMethod } from '../../numerics/thresholds/index.js';
import { exceedsFloat16 } from '../../passes/float16-region.js';
import type { ScaleType } from '../../passes/linear-forms/form.js';
import type { RangeMethod, Smoothing } from '../options.js';
import type { WeightSample } from './weight-sample.js';

/** Strengths of smoothing that `auto` tries beside none. */
const ALPHAS = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/**
 * Multiples of the range that was seen which `auto` tries beside the searched thresholds. Below 1 clips; above 1 leaves room for what prompts bring
 * that calibration did not see, which smoothed activations need: all their channels come near the end of the range.
 */
const HEADROOMS = [0.8, 0.9, 1, 1.1, 1.25, 1.5, 2];

/** How the range of an activation is found. */
interface RangeChoice {
  readonly method: ThresholdMethod;
  /** What the range that was seen is multiplied with; 1 where a threshold is searched. */
  readonly headroom: number;
}

const MULTIPLES: readonly RangeChoice[] = HEADROOMS.map((headroom) => ({ method: 'minmax', headroom }));

/** Thresholds are searched where nothing is smoothed: the histogram of all samples is of what was not divided, and smoothed ranges have little to clip. */
const AUTO_RANGES: readonly RangeChoice[] = [
  ...MULTIPLES,
  ...(['kl', 'percentile', 'mse'] as const).map((method) => ({ method, headroom: 1 })),
];

export interface FitOptions {
  readonly method: RangeMethod;
  readonly percentile: number;
  readonly smooth: Smoothing;
  /** Codes of the activation; null: one scale a token, which has no range. */
  readonly dtype: 'int8' | 'uint8' | null;
  readonly scaleType: ScaleType;
  /** Whether the activation, as it is or as it is quantized from, is of FP16; absent: not. */
  readonly float16?: boolean;
  /** Ends of the range that are prescribed. */
  readonly prescribed?: { readonly low?: number | undefined; readonly high?: number | undefined };
}

/** What is known of one activation and of the weights that read it. */
export interface FitSource {
  readonly statistics: ActivationStatistics;
  /** Prompt to `[tokens, channels]`. */
  readonly held: ReadonlyMap<number, Float32Array>;
  readonly weights: WeightSample;
  /** `[channels]`, what a smoothed activation is divided by whatever its strength is; absent: what strength, calibration and weights give. */
  readonly factors?: Float32Array | undefined;
}

/** How an activation is quantized, and by what it was chosen. */
export interface Fit {
  /** Strength of smoothing, and what the activation is divided by; undefined: not smoothed. */
  readonly smoothing: { readonly alpha: number; readonly factors: Float32Array } | undefined;
  /** Of the smoothed activation; undefined where every token has its own. */
  readonly range: FittedRange | undefined;
  /** Whether smoothing was asked for and left out, since smoothed values would not fit into their type. */
  readonly unsmoothed?: boolean;
}

export interface FittedRange extends ChosenRange, RangeChoice {
  /** Range that was seen. */
  readonly min: number;
  readonly max: number;
  /** Channels that held values other than 0, all of which are rounded to 0. */
  readonly lostChannels: number;
}

/** Whether a choice is to be made that needs kept tokens and weights. */
export function needsTokens({ method, smooth, dtype }: Pick<FitOptions, 'method' | 'smooth' | 'dtype'>): boolean {
  return smooth !== 'none' || (method === 'auto' && dtype !== null);
}

/**
 * Chooses smoothing and range of one activation: of all combinations that the options leave open, the one with the least expected error of the
 * linears' outputs, each fold of prompts judged by factors and ranges that the other folds gave. The winner is then made of all prompts.
 *
 * @param source its tokens and weights may be left out where {@link needsTokens} is false
 */
export function fitActivation(source: Pick<FitSource, 'statistics'> & Partial<FitSource>, options: FitOptions): Fit {
  const { statistics } = source;
  // What has no scale has no factors either; makePlan leaves such inputs out.
  if (options.dtype === null && !statistics.total().finite) return { smoothing: undefined, range: undefined };
  if (!needsTokens(options)) {
    const total = statistics.total();
    const choice = { method: options.method as ThresholdMethod, headroom: 1 };
    const range = options.dtype && rangeOf(choice, total.histogram, total, options.dtype, options);
    return { smoothing: undefined, range: range ?? undefined };
  }
  const { held, weights, factors } = source as FitSource;
  const folds = foldsOf(statistics, held);
  const fitter = new Fitter(statistics.channels, weights, options, factors);
  const best = fitter.choose(folds);
  const asked = fitter.prepare(folds, best.alpha);
  const all = asked.fits ? asked : fitter.prepare(folds, null);
  const smoothing = all.factors && { alpha: best.alpha as number, factors: all.factors };
  const left = asked.fits ? {} : { unsmoothed: true };
  const { dtype } = options;
  if (dtype === null || best.range === null) return { smoothing, range: undefined, ...left };
  // The histogram over all samples tells more than that over the kept tokens, but only of what was not divided.
  const histogram = smoothing ? histogramOf(folds, smoothing.factors) : statistics.total().histogram;
  return { smoothing, range: rangeOf(best.range, histogram, all.extremes, dtype, options), ...left };
}

/** What one fold of prompts showed. */
interface Fold {
  readonly extremes: ChannelExtremes;
  /** `[tokens, channels]`. */
  readonly tokens: Float32Array;
}

/** Folds that have prompts. */
function foldsOf(statistics: ActivationStatistics, held: ReadonlyMap<number, Float32Array>): Fold[] {
  return Array.from({ length: FOLDS }, (_, fold): Fold => {
    const prompts = [...held].filter(([prompt]) => prompt % FOLDS === fold).sort(([a], [b]) => a - b);
    return {
      extremes: statistics.folds[fold] as ChannelExtremes,
      tokens: concatenated(prompts.map(([, tokens]) => tokens)),
    };
  }).filter(({ extremes }) => extremes.seen);
}

interface Candidate {
  /** null: not smoothed. */
  readonly alpha: number | null;
  readonly range: RangeChoice | null;
}

/** Factors and ranges as some folds give them. */
interface Prepared {
  readonly factors: Float32Array | undefined;
  /** Of the smoothed activation. */
  readonly extremes: ChannelExtremes;
  /** Whether smoothed values stay within their type, or at least come no nearer its end than they were. */
  readonly fits: boolean;
  /** Of the kept tokens, smoothed. */
  histogram(): HistogramData;
}

class Fitter {
  readonly #channels: number;
  readonly #weights: WeightSample;
  readonly #options: FitOptions;
  readonly #weightMax: Float32Array;
  readonly #gain: Float64Array;
  readonly #factors: Float32Array | undefined;

  constructor(channels: number, weights: WeightSample, options: FitOptions, factors: Float32Array | undefined) {
    this.#channels = channels;
    this.#factors = factors;
    this.#weights = weights;
    this.#options = options;
    this.#weightMax = weights.channelMax;
    this.#gain = weights.gain;
  }

  choose(folds: readonly Fold[]): Candidate {
    const { method, smooth, dtype } = this.#options;
    const alphas = smooth === 'auto' ? [null, ...ALPHAS] : [smooth === 'none' ? null : smooth];
    const rangesAt = (alpha: number | null): readonly (RangeChoice | null)[] => {
      if (dtype === null) return [null];
      if (method !== 'auto') return [{ method, headroom: 1 }];
      return alpha === null ? AUTO_RANGES : MULTIPLES;
    };
    const [first = null] = alphas;
    let best: Candidate = { alpha: first, range: rangesAt(first)[0] ?? null };
    if (alphas.length === 1 && rangesAt(first).length === 1) return best;
    let least = Number.POSITIVE_INFINITY;
    const energies = folds.map(({ tokens }) => outputEnergy(tokens, { gain: this.#gain }));
    for (const alpha of alphas) {
      const ranges = rangesAt(alpha);
      const costs = this.#costs(folds, energies, alpha, ranges);
      ranges.forEach((range, i) => {
        // NaN, of weights that are, is no cost that others could be held against.
        if (!((costs[i] as number) < least)) return;
        least = costs[i] as number;
        best = { alpha, range };
      });
    }
    return best;
  }

  /** @returns of each range, the relative errors of all folds together */
  #costs(
    folds: readonly Fold[],
    energies: readonly number[],
    alpha: number | null,
    ranges: readonly (RangeChoice | null)[],
  ): number[] {
    const { dtype, percentile, scaleType } = this.#options;
    const costs = ranges.map(() => 0);
    // Whatever fold judges, the weights are rounded with nearly the same factors.
    const weightNoise = this.#weights.weightNoise(this.prepare(folds, alpha).factors);
    for (const [i, fold] of folds.entries()) {
      const energy = energies[i] as number;
      if (energy === 0) continue;
      // One fold alone has to judge itself.
      const others = folds.length > 1 ? folds.filter((other) => other !== fold) : folds;
      const prepared = this.prepare(others, alpha);
      const { factors } = prepared;
      const { range: seen } = prepared.extremes;
      if (!prepared.fits) {
        costs.fill(Number.POSITIVE_INFINITY);
        break;
      }
      const tokens = divided(fold.tokens, factors);
      ranges.forEach((choice, r) => {
        const range = choice && dtype && chosenRange(choice, prepared.histogram, seen, dtype, percentile);
        const scale = range && dtype ? activationScale(dtype, range.low, range.high, scaleType) : undefined;
        const error = outputError(tokens, factors, { gain: this.#gain, weightNoise }, scale);
        costs[r] = (costs[r] as number) + error / energy;
      });
    }
    return costs;
  }

  prepare(folds: readonly Fold[], alpha: number | null): Prepared {
    const extremes = new ChannelExtremes(this.#channels);
    for (const { extremes: of } of folds) extremes.widen(of.channelMin, of.channelMax);
    const { channelMin, channelMax } = extremes;
    const magnitudes = channelMax.map((max, k) => Math.max(max, -(channelMin[k] as number)));
    const factors =
      alpha === null ? undefined : (this.#factors ?? smoothingFactors(magnitudes, this.#weightMax, alpha));
    const smoothed = new ChannelExtremes(this.#channels);
    smoothed.widen(divided(channelMin, factors), divided(channelMax, factors));
    let histogram: HistogramData | undefined;
    const [before, after] = [largest(extremes), largest(smoothed)];
    const ends = this.#options.float16 ? exceedsFloat16(after) : !(after <= MAX_FLOAT32);
    return {
      factors,
      extremes: smoothed,
      fits: factors === undefined || !ends || after <= before,
      histogram: () => {
        histogram ??= histogramOf(folds, factors).toJSON();
        return histogram;
      },
    };
  }
}

/** Largest finite float32. */
const MAX_FLOAT32 = 3.4028234663852886e38;

function largest({ range: { min, max } }: ChannelExtremes): number {
  return Math.max(Math.abs(min), Math.abs(max));
}

function histogramOf(folds: readonly Fold[], factors: Float32Array | undefined): Histogram {
  const histogram = new Histogram();
  for (const { tokens } of folds) histogram.add(divided(tokens, factors));
  return histogram;
}

/** @param histogram asked for where the range depends on it */
function chosenRange(
  { method, headroom }: RangeChoice,
  histogram: () => HistogramData,
  range: { readonly min: number; readonly max: number },
  dtype: 'int8' | 'uint8',
  percentile: number,
): ChosenRange {
  if (method !== 'minmax') return chooseRange(histogram(), range, dtype, { method, percentile });
  return { low: range.min * headroom, high: range.max * headroom, clippedShare: 0, candidates: 1 };
}

function rangeOf(
  choice: RangeChoice,
  histogram: Histogram,
  extremes: ChannelExtremes,
  dtype: 'int8' | 'uint8',
  { percentile, prescribed, scaleType }: Pick<FitOptions, 'percentile' | 'prescribed' | 'scaleType'>,
): FittedRange {
  const { range } = extremes;
  const chosen = chosenRange(choice, () => histogram.toJSON(), range, dtype, percentile);
  const [low, high] = [prescribed?.low ?? chosen.low, prescribed?.high ?? chosen.high];
  const searched = low === chosen.low && high === chosen.high && choice.method !== 'minmax';
  // A symmetric scale covers the larger end on both sides.
  const end = Math.max(Math.abs(low), Math.abs(high));
  const [from, to] = dtype === 'int8' ? [-end, end] : [low, high];
  const clippedShare = searched ? chosen.clippedShare : histogram.shareOutside(from, to);
  const step = low <= high ? activationScale(dtype, low, high, scaleType).scale : 0;
  return { ...chosen, low, high, clippedShare, ...choice, ...range, lostChannels: lost(extremes, step) };
}

/** @returns channels that are rounded to 0 with this step, those that are 0 left out */
function lost({ channelMin, channelMax }: ChannelExtremes, step: number): number {
  let channels = 0;
  channelMax.forEach((max, k) => {
    const magnitude = Math.max(max, -(channelMin[k] as number));
    if (magnitude > 0 && magnitude < step / 2) channels++;
  });
  return channels;
}

/** `[rows, channels]` over `[channels]`. */
function divided(values: Float32Array, factors: Float32Array | undefined): Float32Array {
  if (!factors) return values;
  const channels = factors.length;
  const inverse = Float64Array.from(factors, (factor) => 1 / factor);
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += channels) {
    for (let k = 0; k < channels; k++) result[start + k] = (values[start + k] as number) * (inverse[k] as number);
  }
  return result;
}
