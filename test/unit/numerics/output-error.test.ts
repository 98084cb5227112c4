import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ActivationScale, activationScale } from '../../../src/numerics/int8.js';
import { type OutputGain, outputEnergy, outputError } from '../../../src/numerics/output-error.js';
import { randn } from '../../../src/numerics/rng.js';

/** Source of the expectation: the definition of QuantizeLinear, with ties to even written out. */
function plainCode(value: number, least: number, most: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  const even = below % 2 === 0 ? below : below + 1;
  const rounded = rest === 0.5 ? even : rest < 0.5 ? below : below + 1;
  return Math.min(most, Math.max(least, rounded));
}

/** What a token becomes, element by element. */
function quantized(token: readonly number[], scale: ActivationScale | undefined): number[] {
  const largest = Math.max(...token.map(Math.abs));
  const step = scale ? scale.scale : largest === 0 ? 1 : largest / 127;
  const zero = scale ? scale.zeroPoint : 0;
  const [least, most] = scale?.dtype === 'uint8' ? [0 - zero, 255 - zero] : [-127, 127];
  return token.map((x) => plainCode(x / step, least, most) * step);
}

function rowsOf(tokens: ArrayLike<number>, channels: number): number[][] {
  const values = Array.from(tokens);
  return Array.from({ length: values.length / channels }, (_, t) => values.slice(t * channels, (t + 1) * channels));
}

/** The sum as the documentation has it. */
function plainError(
  tokens: Float32Array,
  factors: Float32Array | undefined,
  { gain, weightNoise }: OutputGain,
  scale: ActivationScale | undefined,
): number {
  let error = 0;
  for (const token of rowsOf(tokens, gain.length)) {
    quantized(token, scale).forEach((q, k) => {
      const step = (factors?.[k] ?? 1) * ((token[k] as number) - q);
      error += (gain[k] as number) * step * step + weightNoise * q * q;
    });
  }
  return error;
}

const finite = fc.double({ min: -50, max: 50, noNaN: true });
const positive = fc.double({ min: 1e-3, max: 1e3, noNaN: true });
const scales: fc.Arbitrary<ActivationScale | undefined> = fc.oneof(
  fc.constant(undefined),
  fc
    .tuple(fc.constantFrom('int8' as const, 'uint8' as const), finite, finite)
    .map(([dtype, a, b]) => activationScale(dtype, Math.min(a, b), Math.max(a, b))),
);
const cases = fc.integer({ min: 1, max: 6 }).chain((channels) =>
  fc.record({
    tokens: fc
      .integer({ min: 0, max: 5 })
      .chain((rows) => fc.array(finite, { minLength: rows * channels, maxLength: rows * channels }))
      .map((values) => Float32Array.from(values)),
    factors: fc.option(
      fc.array(positive, { minLength: channels, maxLength: channels }).map((values) => Float32Array.from(values)),
      { nil: undefined },
    ),
    gain: fc.array(positive, { minLength: channels, maxLength: channels }).map((values) => Float64Array.from(values)),
    weightNoise: fc.double({ min: 0, max: 1, noNaN: true }),
    scale: scales,
  }),
);

const closeTo = (actual: number, expected: number): void =>
  expect(Math.abs(actual - expected)).toBeLessThanOrEqual(1e-9 * Math.abs(expected) + 1e-300);

describe('outputError', () => {
  it('is what a plain reading quantizes and sums', () => {
    fc.assert(
      fc.property(cases, ({ tokens, factors, gain, weightNoise, scale }) => {
        const measured = outputError(tokens, factors, { gain, weightNoise }, scale);
        closeTo(measured, plainError(tokens, factors, { gain, weightNoise }, scale));
      }),
      { numRuns: 300 },
    );
  });

  it('adds up over tokens', () => {
    fc.assert(
      fc.property(cases, ({ tokens, factors, gain, weightNoise, scale }) => {
        const of = (part: Float32Array): number => outputError(part, factors, { gain, weightNoise }, scale);
        const parts = rowsOf(tokens, gain.length).map((token) => of(Float32Array.from(token)));
        closeTo(
          of(tokens),
          parts.reduce((a, b) => a + b, 0),
        );
      }),
    );
  });

  it('is nothing where every value is a code and the weights are exact', () => {
    const scale = { dtype: 'uint8', scale: 0.25, zeroPoint: 100 } as const;
    const tokens = Float32Array.of(-25, 38.75, 0, 1.25);
    const exact = { gain: Float64Array.of(3, 5), weightNoise: 0 };
    expect(outputError(tokens, undefined, exact, scale)).toBe(0);
    expect(outputError(tokens, undefined, { ...exact, weightNoise: 0.5 }, scale)).toBe(
      0.5 * (25 ** 2 + 38.75 ** 2 + 1.25 ** 2),
    );
  });

  it('counts what is clipped, at the end of the range on its side', () => {
    const gain = { gain: Float64Array.of(2), weightNoise: 0 };
    const beyond = (x: number, scale: ActivationScale): number =>
      outputError(Float32Array.of(x), undefined, gain, scale);
    expect(beyond(200, { dtype: 'int8', scale: 1, zeroPoint: 0 })).toBe(2 * 73 ** 2);
    expect(beyond(-128, { dtype: 'int8', scale: 1, zeroPoint: 0 })).toBe(2);
    expect(beyond(200, { dtype: 'uint8', scale: 1, zeroPoint: 100 })).toBe(2 * 45 ** 2);
    expect(beyond(-103, { dtype: 'uint8', scale: 1, zeroPoint: 100 })).toBe(2 * 9);
  });

  it('gives every token the scale of its own largest magnitude where there is none', () => {
    const gain = { gain: Float64Array.of(1, 1), weightNoise: 0 };
    // Steps of 1 and of 100: 0.4 is lost of the first token, 40 of the second.
    const tokens = Float32Array.of(127, 0.375, -12_700, 37.5);
    expect(outputError(tokens, undefined, gain, undefined)).toBeCloseTo(0.375 ** 2 + 37.5 ** 2, 9);
    const one = activationScale('int8', -12_700, 12_700);
    expect(outputError(tokens, undefined, gain, one)).toBeCloseTo((127 - 100) ** 2 + 0.375 ** 2 + 37.5 ** 2, 9);
    expect(outputError(new Float32Array(4), undefined, gain, undefined)).toBe(0);
  });

  it('weighs the errors of smoothed channels by the factors that their weights have', () => {
    fc.assert(
      fc.property(cases, ({ tokens, gain, weightNoise, scale }) => {
        const factors = gain.map((_, k) => 2 ** (k - 2));
        const grown = gain.map((g, k) => g * (factors[k] as number) ** 2);
        closeTo(
          outputError(tokens, Float32Array.from(factors), { gain, weightNoise }, scale),
          outputError(tokens, undefined, { gain: grown, weightNoise }, scale),
        );
      }),
    );
  });
});

describe('outputEnergy', () => {
  it('is the error of a quantizer that makes everything 0', () => {
    fc.assert(
      fc.property(cases, ({ tokens, gain }) => {
        // Codes are 0 below half a step.
        const scale = { dtype: 'int8', scale: 1000, zeroPoint: 0 } as const;
        closeTo(outputEnergy(tokens, { gain }), outputError(tokens, undefined, { gain, weightNoise: 0 }, scale));
      }),
    );
  });

  it('sums gain x^2 over tokens and channels', () => {
    expect(outputEnergy(Float32Array.of(1, -2, 3, 0), { gain: Float64Array.of(10, 0.5) })).toBe(10 + 2 + 90);
    expect(outputEnergy(new Float32Array(0), { gain: Float64Array.of(1) })).toBe(0);
  });
});

describe('beside a product with independent random weights', () => {
  const [TOKENS, CHANNELS, OUTPUTS] = [48, 64, 96];
  // Channels of different magnitudes, most of all the last.
  const x = randn(1, TOKENS * CHANNELS).map((v, i) => v * 2 ** (((i % CHANNELS) * 5) / CHANNELS));
  const weight = randn(2, CHANNELS * OUTPUTS);

  /** `[rows, channels]` by `[channels, OUTPUTS]`. */
  function product(rows: ArrayLike<number>, by: ArrayLike<number>): Float64Array {
    const result = new Float64Array((rows.length / CHANNELS) * OUTPUTS);
    for (let t = 0; t < rows.length / CHANNELS; t++) {
      for (let k = 0; k < CHANNELS; k++) {
        const value = rows[t * CHANNELS + k] as number;
        for (let o = 0; o < OUTPUTS; o++) {
          const at = t * OUTPUTS + o;
          result[at] = (result[at] as number) + value * (by[k * OUTPUTS + o] as number);
        }
      }
    }
    return result;
  }

  const squares = (values: Float64Array): number => values.reduce((sum, v) => sum + v * v, 0);
  const gain = Float64Array.from({ length: CHANNELS }, (_, k) =>
    squares(Float64Array.from(weight.subarray(k * OUTPUTS, (k + 1) * OUTPUTS))),
  );
  const expected = product(x, weight);

  /** Weights with one symmetric INT8 scale for each output channel. */
  const maxima = Array.from({ length: OUTPUTS }, (_, o) =>
    Math.max(...Array.from({ length: CHANNELS }, (__, k) => Math.abs(weight[k * OUTPUTS + o] as number))),
  );
  const steps = maxima.map((most) => most / 127);
  const coarse = weight.map(
    (w, i) => plainCode(w / (steps[i % OUTPUTS] as number), -127, 127) * (steps[i % OUTPUTS] as number),
  );
  const weightNoise = steps.reduce((sum, step) => sum + (step * step) / 12, 0);

  const largest = Math.max(...x.map(Math.abs));
  it.each<[string, ActivationScale | undefined]>([
    ['int8 over the whole range', activationScale('int8', -largest, largest)],
    ['int8 that clips', activationScale('int8', -largest / 4, largest / 4)],
    ['uint8', activationScale('uint8', -largest, largest)],
    ['a scale for each token', undefined],
  ])('foresees the squared error of the outputs within 10 %%: %s', (_, scale) => {
    const codes = rowsOf(x, CHANNELS).flatMap((token) => quantized(token, scale));
    const errorOf = (by: Float32Array): number =>
      squares(product(codes, by).map((v, i) => v - (expected[i] as number)));
    const foreseen = (noise: number): number => outputError(x, undefined, { gain, weightNoise: noise }, scale);
    // 4,608 outputs of each a sum of 64 errors: the mean of as many squares is known within a few percent.
    expect(foreseen(0) / errorOf(weight)).toBeGreaterThan(0.9);
    expect(foreseen(0) / errorOf(weight)).toBeLessThan(1.1);
    expect(foreseen(weightNoise) / errorOf(coarse)).toBeGreaterThan(0.9);
    expect(foreseen(weightNoise) / errorOf(coarse)).toBeLessThan(1.1);
  });

  it('foresees the energy of the outputs within 10 %', () => {
    expect(outputEnergy(x, { gain }) / squares(expected)).toBeGreaterThan(0.9);
    expect(outputEnergy(x, { gain }) / squares(expected)).toBeLessThan(1.1);
  });

  it('foresees what smoothing changes, within 10 %', () => {
    const factors = Float32Array.from({ length: CHANNELS }, (_, k) => 2 ** ((k * 5) / CHANNELS - 2.5));
    const smoothed = x.map((v, i) => v / (factors[i % CHANNELS] as number));
    const grown = weight.map((w, i) => w * (factors[Math.floor(i / OUTPUTS)] as number));
    const top = Math.max(...smoothed.map(Math.abs));
    const scale = activationScale('int8', -top, top);
    const codes = rowsOf(smoothed, CHANNELS).flatMap((token) => quantized(token, scale));
    const real = squares(product(codes, grown).map((v, i) => v - (expected[i] as number)));
    const foreseen = outputError(smoothed, factors, { gain, weightNoise: 0 }, scale);
    expect(foreseen / real).toBeGreaterThan(0.9);
    expect(foreseen / real).toBeLessThan(1.1);
    // Smoothing pays here, by much more than the measure is off.
    expect(foreseen).toBeLessThan(
      0.5 * outputError(x, undefined, { gain, weightNoise: 0 }, activationScale('int8', -largest, largest)),
    );
  });
});
