import { describe, expect, it } from 'vitest';
import { FOLDS } from '../../../../src/calibrate/held.js';
import { ActivationStatistics } from '../../../../src/calibrate/statistics.js';
import { type ActivationScale, activationScale, quantizeWeight, roundHalfEven } from '../../../../src/numerics/int8.js';
import { randn } from '../../../../src/numerics/rng.js';
import { smoothingFactors } from '../../../../src/numerics/smoothing.js';
import { THRESHOLD_METHODS } from '../../../../src/numerics/thresholds/index.js';
import {
  type Fit,
  type FitOptions,
  type FitSource,
  fitActivation,
  needsTokens,
} from '../../../../src/quantize/fit/fit.js';
import { WeightSample } from '../../../../src/quantize/fit/weight-sample.js';
import { memory } from '../../../helpers/source.js';
import { channelExtremes } from '../../../integration/support/arrays.js';
import { linearsOf, product, randomWeight, type Weight } from './support.js';

const CHANNELS = 24;
const weight = randomWeight(100, CHANNELS, 32);
const weights = await WeightSample.read(linearsOf([weight]), memory);

const OPTIONS: FitOptions = { method: 'auto', percentile: 99.9, smooth: 'auto', dtype: 'int8', scaleType: 'float32' };
const fitted = (source: FitSource, changes: Partial<FitOptions> = {}): Fit =>
  fitActivation(source, { ...OPTIONS, ...changes });

/** Tokens of a prompt, all of which reach as far; each channel times its own factor. */
function tokensOf(prompt: number, scaleOf: (channel: number) => number = () => 1, rows = 32): Float32Array {
  return randn(prompt, rows * CHANNELS).map((v, i) => Math.tanh(v) * scaleOf(i % CHANNELS));
}

/** What calibration knows after these prompts, all of whose tokens it kept. */
function sourceOf(prompts: Iterable<readonly [number, Float32Array]>, of: WeightSample = weights): FitSource {
  const statistics = new ActivationStatistics('x', of.inFeatures);
  for (const [prompt, tokens] of prompts) {
    const rows = tokens.length / of.inFeatures;
    const places = Array.from({ length: rows }, (_, position) => ({ position, at: (position + 0.5) / rows }));
    const { min, max } = channelExtremes(tokens, of.inFeatures);
    statistics.add({ prompt, branch: 'cond', bucket: 0, places, heldOfPrompt: rows }, min, max, tokens);
  }
  return { statistics, held: statistics.held, weights: of };
}

const PROMPTS = [0, 1, 2, 3, 4, 5, 6, 7];
/** Channel 3 is 40 times as large as the others. */
const outlier = (channel: number): number => (channel === 3 ? 40 : 1);
const plain = sourceOf(PROMPTS.map((prompt) => [prompt, tokensOf(prompt)]));
const skewed = sourceOf(PROMPTS.map((prompt) => [prompt, tokensOf(prompt, outlier)]));

function fakeQuantized(values: Float32Array, { dtype, scale, zeroPoint }: ActivationScale): Float32Array {
  const [least, most] = dtype === 'uint8' ? [0, 255] : [-127, 127];
  return values.map((x) => {
    const code = Math.min(most, Math.max(least, roundHalfEven(x / scale) + zeroPoint));
    return (code - zeroPoint) * scale;
  });
}

/** Squared error of the outputs over their energy, with all that a fit says really done to activation and weight. */
function trueError(
  { smoothing, range }: Fit,
  dtype: 'int8' | 'uint8' | null,
  tokens: Float32Array,
  of = weight,
): number {
  const factors = smoothing?.factors ?? new Float32Array(of.inFeatures).fill(1);
  const divided = tokens.map((x, i) => x / (factors[i % of.inFeatures] as number));
  const codes =
    dtype === null
      ? perToken(divided, of.inFeatures)
      : fakeQuantized(divided, activationScale(dtype, range?.low as number, range?.high as number));
  const grown = of.values.map((w, i) => w * (factors[Math.floor(i / of.outFeatures)] as number));
  const { values, scales } = quantizeWeight(grown, of.inFeatures, of.outFeatures, 1);
  const rounded = Float32Array.from(values, (code, i) => code * (scales[i % of.outFeatures] as number));
  const expected = product(tokens, of);
  const actual = product(codes, { ...of, values: rounded });
  const [error, energy] = expected.reduce(([e, s], y, i) => [e + (y - (actual[i] as number)) ** 2, s + y * y], [
    0, 0,
  ] as readonly [number, number]);
  return error / energy;
}

function perToken(values: Float32Array, channels: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += channels) {
    const token = values.subarray(at, at + channels);
    const most = Math.max(...token.map(Math.abs));
    result.set(fakeQuantized(token, activationScale('int8', -most, most)), at);
  }
  return result;
}

/** Tokens that no fit has seen. */
const unseen = (scaleOf?: (channel: number) => number): Float32Array => tokensOf(1000, scaleOf, 256);

describe('a fit of numbers near the end of their type', () => {
  // Tokens of one magnitude, and weights that make factors of which half are below 1.
  const uneven = randomWeight(100, CHANNELS, 32);
  const steep = uneven.values.map((value, i) => (Math.floor(i / 32) % 2 === 0 ? value : value * 1e-6));

  it.each<[string, number, Partial<FitOptions>]>([
    ['FP32', 3e38, {}],
    ['FP16', 16_000, { float16: true }],
  ])('smooths nothing past the end of %s, and says so', async (_, magnitude, changes) => {
    const of = await WeightSample.read(linearsOf([{ ...uneven, values: steep }]), memory);
    const source = sourceOf(
      PROMPTS.map((prompt) => [prompt, tokensOf(prompt, () => magnitude)]),
      of,
    );
    for (const dtype of ['int8', null] as const) {
      const forced = fitted(source, { smooth: 0.5, method: 'minmax', dtype, ...changes });
      expect(forced).toMatchObject({ smoothing: undefined, unsmoothed: true });
      const chosen = fitted(source, { dtype, ...changes });
      expect(chosen.smoothing?.factors.every(Number.isFinite) ?? true).toBe(true);
      expect(chosen.unsmoothed).toBeUndefined();
      for (const { range } of dtype ? [forced, chosen] : []) {
        expect(Number.isFinite(range?.low) && Number.isFinite(range?.high)).toBe(true);
      }
    }
    const small = sourceOf(
      PROMPTS.map((prompt) => [prompt, tokensOf(prompt)]),
      of,
    );
    expect(fitted(small, { smooth: 0.5, method: 'minmax', ...changes }).smoothing?.alpha).toBe(0.5);
  });

  it('falls back on the first choice where weights are NaN', async () => {
    const broken = { ...uneven, values: uneven.values.with(7, Number.NaN) };
    const of = await WeightSample.read(linearsOf([broken]), memory);
    const { smoothing, range } = fitted({ ...plain, weights: of });
    expect(smoothing).toBeUndefined();
    expect(range).toMatchObject({ method: 'minmax', headroom: 0.8 });
  });

  it('counts channels that are rounded to 0', () => {
    const { range } = fitted(sourceOf([[0, tokensOf(0, (channel) => (channel === 0 ? 0 : channel === 3 ? 1e8 : 1))]]), {
      ...{ smooth: 'none', method: 'minmax' },
    });
    expect(range?.lostChannels).toBe(CHANNELS - 2);
    expect(fitted(plain, { smooth: 'none', method: 'minmax' }).range?.lostChannels).toBe(0);
  });
});

describe('a fit of an activation with an outlier channel', () => {
  it.each(['int8', 'uint8'] as const)('smooths it, to a smaller error of really quantized outputs: %s', (dtype) => {
    const [smooth, none] = [fitted(skewed, { dtype }), fitted(skewed, { dtype, smooth: 'none' })];
    expect(none.smoothing).toBeUndefined();
    expect(smooth.smoothing?.alpha).toBeGreaterThan(0);
    const factors = smooth.smoothing?.factors as Float32Array;
    expect(factors.indexOf(Math.max(...factors))).toBe(3);
    const tokens = unseen(outlier);
    expect(trueError(smooth, dtype, tokens)).toBeLessThan(0.25 * trueError(none, dtype, tokens));
  });

  it('chooses a strength near the best there is', () => {
    const tokens = unseen(outlier);
    const errors = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1].map((alpha) =>
      trueError(fitted(skewed, { smooth: alpha }), 'int8', tokens),
    );
    expect(trueError(fitted(skewed), 'int8', tokens)).toBeLessThan(1.2 * Math.min(...errors));
  });

  it('smooths what has one scale for each token too, and has no range', () => {
    const [smooth, none] = [fitted(skewed, { dtype: null }), fitted(skewed, { dtype: null, smooth: 'none' })];
    expect([smooth.range, none.range, none.smoothing]).toEqual([undefined, undefined, undefined]);
    const tokens = unseen(outlier);
    expect(trueError(smooth, null, tokens)).toBeLessThan(0.5 * trueError(none, null, tokens));
  });

  it('has a range that the smoothed activation stays in', () => {
    const { smoothing, range } = fitted(skewed, { method: 'minmax', smooth: 0.5 });
    const factors = smoothing?.factors as Float32Array;
    const all = [...skewed.held.values()].flatMap((tokens) =>
      [...tokens].map((x, i) => Math.fround(x / (factors[i % CHANNELS] as number))),
    );
    const [min, max] = [Math.min(...all), Math.max(...all)];
    expect(range).toMatchObject({ min, max, low: min, high: max, method: 'minmax', headroom: 1, clippedShare: 0 });
  });
});

describe('a fit of an activation without outliers', () => {
  it('is no worse than without smoothing, really quantized', () => {
    const tokens = unseen();
    for (const dtype of ['int8', 'uint8'] as const) {
      const [free, none] = [fitted(plain, { dtype }), fitted(plain, { dtype, smooth: 'none' })];
      expect(trueError(free, dtype, tokens)).toBeLessThan(1.05 * trueError(none, dtype, tokens));
    }
  });

  it('covers the side that a one-sided activation has', () => {
    const positive = sourceOf(PROMPTS.map((prompt) => [prompt, tokensOf(prompt).map(Math.abs)]));
    const { range } = fitted(positive, { dtype: 'uint8', smooth: 'none', method: 'minmax' });
    expect(range?.low).toBeGreaterThanOrEqual(0);
    const tokens = unseen().map(Math.abs);
    const [affine, symmetric] = [fitted(positive, { dtype: 'uint8' }), fitted(positive, { dtype: 'int8' })];
    expect(trueError(affine, 'uint8', tokens)).toBeLessThan(trueError(symmetric, 'int8', tokens));
  });
});

describe('the folds of prompts', () => {
  const loud = 1.6;
  /** Prompts of one fold reach further than all others. */
  const uneven = PROMPTS.map((prompt): [number, Float32Array] => {
    const reach = prompt % FOLDS === 2 ? loud : 1;
    return [prompt, tokensOf(prompt, () => reach)];
  });

  it('lead to headroom where one exceeds the others', () => {
    const { range } = fitted(sourceOf(uneven), { smooth: 'none' });
    expect(range?.method).toBe('minmax');
    expect(range?.headroom).toBeGreaterThan(1);
    expect(range?.max).toBeCloseTo(loud, 2);
    expect(range?.high).toBe((range?.max as number) * (range?.headroom as number));
    expect(range?.low).toBe((range?.min as number) * (range?.headroom as number));
    expect(range?.clippedShare).toBe(0);
  });

  it('lead to none where all reach as far', () => {
    const { range } = fitted(plain, { smooth: 'none' });
    expect(range?.headroom).toBeLessThanOrEqual(1);
  });

  it.each([0, 1, 2, 3])('may be one alone: %i', (fold) => {
    const alone = sourceOf([fold, fold + FOLDS].map((prompt) => [prompt, tokensOf(prompt, outlier)]));
    const [free, none] = [fitted(alone), fitted(alone, { smooth: 'none' })];
    expect(free.smoothing?.alpha).toBeGreaterThan(0);
    const tokens = unseen(outlier);
    expect(trueError(free, 'int8', tokens)).toBeLessThan(0.5 * trueError(none, 'int8', tokens));
    expect(fitted(sourceOf([[fold, tokensOf(fold)]]), { method: 'kl', smooth: 'none' }).range?.method).toBe('kl');
  });

  it('do not make the fit depend on the order in which prompts were added', () => {
    const prompts = PROMPTS.map((prompt): [number, Float32Array] => [prompt, tokensOf(prompt, outlier)]);
    const orders = [prompts, prompts.toReversed(), [...prompts.slice(3), ...prompts.slice(0, 3)]];
    for (const changes of [{}, { smooth: 0.5 }, { dtype: null }, { method: 'kl' }] satisfies Partial<FitOptions>[]) {
      const [first, ...others] = orders.map((order) => fitted(sourceOf(order), changes));
      for (const other of others) expect(other).toEqual(first);
    }
  });

  it('all tell the range and the factors, those of which no token was kept too', () => {
    const prompts = PROMPTS.map((prompt): [number, Float32Array] => [prompt, tokensOf(prompt, outlier)]);
    // What the kept tokens do not show: prompt 5 reached further.
    const far = tokensOf(5, (channel) => 3 * outlier(channel));
    const all = sourceOf([...prompts, [5, far]]);
    const { min, max } = all.statistics.total().range;
    const held = new Map([...all.held].filter(([prompt]) => prompt % FOLDS !== 1));
    const partial: FitSource = { ...all, held };
    expect(fitted(partial, { method: 'minmax', smooth: 'none' }).range).toMatchObject({
      min,
      max,
      low: min,
      high: max,
    });
    const { range } = fitted(partial, { smooth: 'none' });
    expect([range?.min, range?.max]).toEqual([min, max]);
    const { channelMin, channelMax } = all.statistics.total();
    const magnitudes = channelMax.map((most, k) => Math.max(most, -(channelMin[k] as number)));
    expect(fitted(partial, { smooth: 0.5, method: 'minmax' }).smoothing?.factors).toEqual(
      smoothingFactors(magnitudes, weights.channelMax, 0.5),
    );
  });
});

describe('what is given', () => {
  it.each(THRESHOLD_METHODS)('is kept: the method %s', (method) => {
    for (const smooth of ['auto', 'none', 0.4] as const) {
      expect(fitted(skewed, { method, smooth }).range).toMatchObject({ method, headroom: 1 });
    }
  });

  it.each([0, 0.35, 1])('is kept: the strength %d, and the factors are those of all that was seen', (alpha) => {
    for (const dtype of ['int8', 'uint8', null] as const) {
      const { smoothing } = fitted(plain, { smooth: alpha, dtype });
      expect(smoothing?.alpha).toBe(alpha);
      const { channelMin, channelMax } = plain.statistics.total();
      const magnitudes = channelMax.map((most, k) => Math.max(most, -(channelMin[k] as number)));
      expect(smoothing?.factors).toEqual(smoothingFactors(magnitudes, weights.channelMax, alpha));
    }
  });

  it('is kept: the percentile', () => {
    const [tight, loose] = [90, 99.99].map((percentile) =>
      fitted(plain, { method: 'percentile', percentile, smooth: 0.5 }),
    ) as [Fit, Fit];
    expect(tight.range?.clippedShare).toBeCloseTo(0.1, 2);
    expect(tight.range?.high).toBeLessThan(loose.range?.high as number);
  });

  it('needs no tokens and no weights where it leaves nothing open', () => {
    const { statistics } = plain;
    for (const method of THRESHOLD_METHODS) {
      const { smoothing, range } = fitActivation({ statistics }, { ...OPTIONS, method, smooth: 'none' });
      expect(smoothing).toBeUndefined();
      expect(range).toMatchObject({ ...statistics.total().range, method, headroom: 1 });
    }
    const dynamic = { ...OPTIONS, smooth: 'none', dtype: null } as const;
    expect(fitActivation({ statistics }, dynamic)).toEqual({ smoothing: undefined, range: undefined });
  });

  it.each<[Partial<FitOptions>, boolean]>([
    [{ method: 'auto', smooth: 'none', dtype: 'int8' }, true],
    [{ method: 'auto', smooth: 'none', dtype: null }, false],
    [{ method: 'kl', smooth: 'none', dtype: 'uint8' }, false],
    [{ method: 'kl', smooth: 'auto', dtype: 'uint8' }, true],
    [{ method: 'kl', smooth: 0.5, dtype: null }, true],
    [{ method: 'kl', smooth: 0, dtype: 'int8' }, true],
  ])('needs tokens: %j: %s', (changes, needed) => {
    expect(needsTokens({ ...OPTIONS, ...changes })).toBe(needed);
  });
});

describe('a fit of values that are odd', () => {
  const zeros = sourceOf(PROMPTS.map((prompt) => [prompt, new Float32Array(4 * CHANNELS)]));

  it('has a finite scale for an activation that was always 0', () => {
    for (const dtype of ['int8', 'uint8'] as const) {
      const { range } = fitted(zeros, { dtype });
      expect(range).toMatchObject({ min: 0, max: 0, low: 0, high: 0 });
      expect(activationScale(dtype, range?.low as number, range?.high as number).scale).toBe(1);
    }
  });

  it('has finite factors for channels that were always 0', () => {
    const dead = sourceOf(PROMPTS.map((prompt) => [prompt, tokensOf(prompt, (channel) => (channel === 5 ? 0 : 1))]));
    for (const smooth of [0, 0.5, 1, 'auto'] as const) {
      const { smoothing, range } = fitted(dead, { smooth });
      const factors = smoothing?.factors ?? Float32Array.of(1);
      expect(factors.every((factor) => factor > 0 && Number.isFinite(1 / factor))).toBe(true);
      expect(Number.isFinite(range?.low) && Number.isFinite(range?.high)).toBe(true);
    }
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('smooths nothing where a value was %d', (broken) => {
    const tokens = tokensOf(2, outlier);
    tokens[7] = broken;
    const source = sourceOf([
      [0, tokensOf(0, outlier)],
      [2, tokens],
    ]);
    for (const smooth of ['auto', 0.5] as const) {
      const { smoothing } = fitted(source, { dtype: null, smooth });
      expect((smoothing?.factors ?? Float32Array.of(1)).every(Number.isFinite)).toBe(true);
    }
  });
});

describe('scales of float16', () => {
  it('are what a fit is judged by', () => {
    const tiny = sourceOf(PROMPTS.map((prompt) => [prompt, tokensOf(prompt, () => 2e-6)]));
    // A step of 1e-7 is rounded up to one of the coarse FP16 steps there; the fit has nothing finer to choose.
    const { range } = fitted(tiny, { scaleType: 'float16', smooth: 'none' });
    const { scale } = activationScale('int8', range?.low as number, range?.high as number, 'float16');
    expect(scale).toBeGreaterThan(0);
    const other = fitted(tiny, { scaleType: 'float32', smooth: 'none' });
    const errorOf = ({ range: of }: Fit): number => {
      const coarse = activationScale('int8', of?.low as number, of?.high as number, 'float16');
      const tokens = tokensOf(1000, () => 2e-6, 64);
      return fakeQuantized(tokens, coarse).reduce((sum, q, i) => sum + (q - (tokens[i] as number)) ** 2, 0);
    };
    expect(errorOf({ smoothing: undefined, range })).toBeLessThanOrEqual(errorOf(other));
  });
});

const narrow: Weight = randomWeight(7, CHANNELS, 3);

it('an activation that several linears read is fitted for all of them together', async () => {
  // The second weight reads channel 3 alone, so that its errors count most.
  const peaked = { ...narrow, values: narrow.values.map((_, i) => (Math.floor(i / 3) === 3 ? 50 : 0)) };
  const both = await WeightSample.read(linearsOf([weight, peaked]), memory);
  const source = (of: WeightSample): FitSource =>
    sourceOf(
      PROMPTS.map((prompt) => [prompt, tokensOf(prompt, outlier)]),
      of,
    );
  const [alone, together] = [fitted(source(weights)), fitted(source(both))];
  const share = ({ smoothing }: Fit): number => (smoothing?.factors[3] as number) / (smoothing?.factors[0] as number);
  expect(share(together)).toBeLessThan(share(alone));
});
