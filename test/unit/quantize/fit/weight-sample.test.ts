import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Linear } from '../../../../src/analyze/linears.js';
import type { WeightFactor } from '../../../../src/analyze/weight-chain.js';
import { asBytes, Tensor } from '../../../../src/ir/tensor.js';
import { float32ToHalf, halfToFloat32 } from '../../../../src/numerics/half.js';
import { quantizeWeight } from '../../../../src/numerics/int8.js';
import { randn } from '../../../../src/numerics/rng.js';
import { WeightSample } from '../../../../src/quantize/fit/weight-sample.js';
import { memory } from '../../../helpers/source.js';
import { linearsOf, linearsOn, randomWeight, transposed, type Weight } from './support.js';

const IN = 6;

const sampleOf = (linears: readonly Linear[]): Promise<WeightSample> => WeightSample.read(linears, memory);

/** Sum of w^2 over all outputs, channel by channel. */
function gainOf(...weights: readonly Weight[]): number[] {
  return Array.from({ length: weights[0]?.inFeatures as number }, (_, k) =>
    weights.reduce((sum, { values, outFeatures }) => {
      const row = values.subarray(k * outFeatures, (k + 1) * outFeatures);
      return sum + row.reduce((squares, w) => squares + w * w, 0);
    }, 0),
  );
}

function maximaOf(...weights: readonly Weight[]): number[] {
  return Array.from({ length: weights[0]?.inFeatures as number }, (_, k) =>
    Math.max(
      ...weights.flatMap(({ values, outFeatures }) => [
        ...values.subarray(k * outFeatures, (k + 1) * outFeatures).map(Math.abs),
      ]),
    ),
  );
}

/** Sum over outputs of step^2 / 12, with one scale for each. */
function noiseOf(factors: ArrayLike<number> | undefined, ...weights: readonly Weight[]): number {
  return weights.reduce((sum, { values, inFeatures, outFeatures }) => {
    const grown = values.map((w, i) => w * (factors?.[Math.floor(i / outFeatures)] ?? 1));
    const { scales } = quantizeWeight(grown, inFeatures, outFeatures, 1);
    return sum + scales.reduce((squares, step) => squares + (step * step) / 12, 0);
  }, 0);
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-6): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) {
    const [a, b] = [actual[i] as number, expected[i] as number];
    expect(Math.abs(a - b), `${i}: ${a}, not ${b}`).toBeLessThanOrEqual(tolerance * Math.abs(b));
  }
}

async function expectSample(sample: WeightSample, ...weights: readonly Weight[]): Promise<void> {
  const factors = Float32Array.from({ length: sample.inFeatures }, (_, k) => 2 ** (k - 2) / 3);
  expectClose(sample.gain, gainOf(...weights));
  expectClose(sample.channelMax, maximaOf(...weights));
  expectClose([sample.weightNoise(undefined)], [noiseOf(undefined, ...weights)]);
  expectClose([sample.weightNoise(factors)], [noiseOf(factors, ...weights)]);
}

describe.each([
  ['[in, out]', false],
  ['[out, in]', true],
] as const)('WeightSample of a weight stored as %s', (_, flipped) => {
  const weight = randomWeight(1, IN, 5);

  it('has the rows of all outputs where they are few', async () => {
    const sample = await sampleOf(linearsOf([weight], { flipped }));
    expect(sample.rows).toEqual(transposed(weight));
    await expectSample(sample, weight);
  });

  it('sums over all linears that read the activation, of whatever width', async () => {
    const weights = [weight, randomWeight(2, IN, 1), randomWeight(3, IN, 300)];
    const linears = linearsOf(weights.slice(0, 2), { flipped });
    await expectSample(await sampleOf(linears), ...weights.slice(0, 2));
    const [wide] = linearsOf(weights.slice(2), { flipped }) as [Linear];
    const [few, many, all] = [await sampleOf(linears), await sampleOf([wide]), await sampleOf([...linears, wide])];
    expectClose(
      all.gain,
      few.gain.map((gain, k) => gain + (many.gain[k] as number)),
    );
    expectClose([all.weightNoise(undefined)], [few.weightNoise(undefined) + many.weightNoise(undefined)]);
    expectClose(
      all.channelMax,
      few.channelMax.map((most, k) => Math.max(most, many.channelMax[k] as number)),
    );
  });

  it('takes 256 outputs of more, evenly spaced, each for as many as it stands for', async () => {
    const outputs = 1000;
    // Each weight tells its output.
    const numbered: Weight = {
      values: Float32Array.from({ length: IN * outputs }, (__, i) => i % outputs),
      inFeatures: IN,
      outFeatures: outputs,
    };
    const sample = await sampleOf(linearsOf([numbered], { flipped }));
    const chosen = [...sample.rows].filter((__, i) => i % IN === 0);
    expect(chosen).toHaveLength(256);
    expect([...sample.rows]).toEqual(chosen.flatMap((output) => new Array<number>(IN).fill(output)));
    const gaps = chosen.map((output, i) => output - (chosen[i - 1] ?? -1));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(2);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(4);
    expect(outputs - (chosen.at(-1) as number)).toBeLessThanOrEqual(4);
    // The sum of n^2 over 1,000 outputs, told by every fourth.
    expectClose(sample.gain, gainOf(numbered), 0.01);

    const random = randomWeight(4, IN, outputs);
    const told = await sampleOf(linearsOf([random], { flipped }));
    // A sum of 256 squares is known to 1 / sqrt(128), 9 %.
    expectClose(told.gain, gainOf(random), 0.3);
    expectClose([told.weightNoise(undefined)], [noiseOf(undefined, random)], 0.1);
  });

  it('reads a weight that is larger than what is read at a time', async () => {
    // 8.4 MiB; a weight of its place in the matrix.
    const [rows, columns] = [1100, 2000];
    const values = Float32Array.from({ length: rows * columns }, (__, i) => i);
    const large = Tensor.float32('large', flipped ? [columns, rows] : [rows, columns], values);
    const { rows: read } = await sampleOf(linearsOn([large], flipped));
    const chosen = Array.from({ length: 256 }, (__, i) => Math.floor(((i + 0.5) * columns) / 256));
    const expected = chosen.flatMap((output) =>
      Array.from({ length: rows }, (__, k) => values[flipped ? output * rows + k : k * columns + output] as number),
    );
    expect(Buffer.from(asBytes(read)).equals(Buffer.from(asBytes(Float32Array.from(expected))))).toBe(true);
  });

  it.each(['float16', 'bfloat16', 'float64'] as const)('reads %s', async (dtype) => {
    const values = flipped ? transposed(weight) : weight.values;
    const truncated = Uint16Array.from(new Uint32Array(values.slice().buffer), (bits) => bits >>> 16);
    const words = { float16: float32ToHalf(values), bfloat16: truncated, float64: Float64Array.from(values) }[dtype];
    const rounded = {
      float16: () => halfToFloat32(float32ToHalf(values)),
      bfloat16: () => new Float32Array(Uint32Array.from(truncated, (word) => word << 16).buffer),
      float64: () => values,
    }[dtype]();
    const dims = flipped ? [5, IN] : [IN, 5];
    const sample = await sampleOf(linearsOn([Tensor.fromBytes('w', dtype, dims, asBytes(words))], flipped));
    const plain = { inFeatures: flipped ? 5 : IN, outFeatures: flipped ? IN : 5, values: rounded };
    expect(sample.rows).toEqual(flipped ? rounded : transposed(plain));
  });

  it.each(['in', 'out', 'all'] as const)(
    'has what a weight is multiplied with or divided by along %s',
    async (along) => {
      const size = { in: IN, out: 5, all: 1 }[along];
      const [linear] = linearsOf([weight], { flipped }) as [Linear];
      const values = randn(7, size).map((v) => v + 3);
      for (const dtype of ['float32', 'float16'] as const) {
        const stored = dtype === 'float32' ? values : halfToFloat32(float32ToHalf(values));
        const bytes = asBytes(dtype === 'float32' ? values : float32ToHalf(values));
        const tensor = Tensor.fromBytes('f', dtype, along === 'all' ? [] : [size], bytes);
        for (const divides of [false, true]) {
          const factor: WeightFactor = { along, values: tensor, divides };
          const sample = await sampleOf([{ ...linear, factors: [factor] }]);
          const changed = weight.values.map((w, i) => {
            const at = { in: Math.floor(i / 5), out: i % 5, all: 0 }[along];
            return divides ? w / (stored[at] as number) : w * (stored[at] as number);
          });
          await expectSample(sample, { ...weight, values: changed });
        }
      }
    },
  );

  it('has the outputs that were sampled multiplied with their own factors', async () => {
    const outputs = 777;
    const wide = randomWeight(8, IN, outputs);
    const [linear] = linearsOf([wide], { flipped }) as [Linear];
    const values = Float32Array.from({ length: outputs }, (__, output) => 1 + output);
    const factor: WeightFactor = { along: 'out', values: Tensor.float32('f', [outputs], values), divides: false };
    const [plain, sample] = [await sampleOf([linear]), await sampleOf([{ ...linear, factors: [factor] }])];
    const chosen = Array.from({ length: 256 }, (__, i) => Math.floor(((i + 0.5) * outputs) / 256));
    const expected = plain.rows.map((w, i) => w * (1 + (chosen[Math.floor(i / IN)] as number)));
    expect(sample.rows).toEqual(expected);
  });
});

describe("a WeightSample's noise", () => {
  it('is the squared rounding error of one weight of every output, on average', async () => {
    const weight = randomWeight(9, 400, 40);
    const sample = await sampleOf(linearsOf([weight]));
    const { values, scales } = quantizeWeight(weight.values, 400, 40, 1);
    const errors = weight.values.map((w, i) => w - (values[i] as number) * (scales[i % 40] as number));
    const mean = errors.reduce((sum, error) => sum + error * error, 0) / 400;
    expectClose([sample.weightNoise(undefined)], [mean], 0.03);
  });

  it('does not depend on the order of the channels', () =>
    fc.assert(
      fc.asyncProperty(fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: IN }), async (order) => {
        const weight = randomWeight(10, IN, 3);
        const factors = randn(11, IN).map((v) => 2 ** v);
        const shuffled = order.flatMap((k) => [...weight.values.subarray(3 * k, 3 * k + 3)]);
        const [a, b] = [
          await sampleOf(linearsOf([weight])),
          await sampleOf(linearsOf([{ ...weight, values: Float32Array.from(shuffled) }])),
        ];
        const reordered = Float32Array.from(order, (k) => factors[k] as number);
        expect(b.weightNoise(reordered)).toBe(a.weightNoise(factors));
        expect([...b.gain]).toEqual(order.map((k) => a.gain[k]));
      }),
      { numRuns: 20 },
    ));
});
