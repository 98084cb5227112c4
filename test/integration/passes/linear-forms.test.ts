import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Model } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf, halfToFloat32 } from '../../../src/numerics/half.js';
import { quantizeWeight, roundHalfEven } from '../../../src/numerics/int8.js';
import { MersenneTwister } from '../../../src/numerics/rng.js';
import { saveModel } from '../../../src/onnx/save.js';
import { runPasses } from '../../../src/passes/pass.js';
import { type QuantizedLinear, quantizeLinears, type ScaleType } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { topologicalSort } from '../../../src/passes/topological-sort.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../../../src/runtime/tensor.js';
import { memory } from '../../helpers/source.js';
import { relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

/** Two products of one activation. */
interface Case {
  readonly tokens: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly x: Float32Array;
  /** `[in, out]` each. */
  readonly weights: readonly Float32Array[];
}

const cases = fc
  .record({
    tokens: fc.integer({ min: 1, max: 5 }),
    inFeatures: fc.integer({ min: 1, max: 40 }),
    outFeatures: fc.integer({ min: 1, max: 9 }),
    seed: fc.nat(),
    // Tokens of very different size, and some that are all zeros.
    sizes: fc.array(fc.constantFrom(0, 1e-6, 0.01, 1, 300), { minLength: 5, maxLength: 5 }),
  })
  .map(({ tokens, inFeatures, outFeatures, seed, sizes }): Case => {
    const random = new MersenneTwister(seed);
    const normal = (): number => (random.uint32() / 2 ** 32 - 0.5) * 2;
    const weight = (): Float32Array => Float32Array.from({ length: inFeatures * outFeatures }, normal);
    const x = Float32Array.from({ length: tokens * inFeatures }, (_, i) => {
      return normal() * (sizes[Math.floor(i / inFeatures)] as number);
    });
    return { tokens, inFeatures, outFeatures, x, weights: [weight(), weight()] };
  });

function quantizedModel(
  { inFeatures, outFeatures, weights }: Case,
  dtype: 'float32' | 'float16',
  form: Omit<QuantizedLinear, 'linear'>,
): Model {
  const stored = weights.map((weight, i) => {
    const dims = [inFeatures, outFeatures];
    return dtype === 'float16'
      ? Tensor.fromBytes(`w${i}`, 'float16', dims, asBytes(float32ToHalf(weight)))
      : Tensor.float32(`w${i}`, dims, weight);
  });
  const model = modelOf({
    nodes: stored.map(({ name }, i) => node('MatMul', ['x', name], `y${i}`)),
    initializers: stored,
    inputs: [value('x', dtype, [1, 'tokens', inFeatures])],
    outputs: stored.map((_, i) => value(`y${i}`, dtype, null as never)),
  });
  const linears = findLinears(model.graph).map((linear) => ({ linear, ...form }) as QuantizedLinear);
  runPasses(model, [quantizeLinears(linears), topologicalSort, removeUnused]);
  return model;
}

async function run(model: Model, x: Float32Array, dims: number[], dtype: DataTypeName): Promise<Float32Array[]> {
  const target = await mkdtemp(path.join(folder, 'model-'));
  await saveModel(model, memory, target);
  const session = await host.createSession({ path: path.join(target, 'model.onnx') }, CPU);
  const { outputs } = await session.run({ x: fromFloat32(x, dims, dtype) });
  await session.release();
  return Object.values(outputs).map((output) => toFloat32(output as HostTensor));
}

const rounded = (values: Float32Array, dtype: string): Float32Array =>
  dtype === 'float16' ? halfToFloat32(float32ToHalf(values)) : values;

/** Products of codes, each row with a scale of its own. */
function simulate(each: Case, dtype: string, scaleOf: (row: Float32Array) => number): Float32Array[] {
  const { tokens, inFeatures, outFeatures, weights } = each;
  const x = rounded(each.x, dtype);
  return weights.map((weight) => {
    const { values, scales } = quantizeWeight(rounded(weight, dtype), inFeatures, outFeatures, 1);
    const y = new Float32Array(tokens * outFeatures);
    for (let token = 0; token < tokens; token++) {
      const row = x.subarray(token * inFeatures, (token + 1) * inFeatures);
      const scale = scaleOf(row);
      const codes = row.map((v) => Math.max(-128, Math.min(127, roundHalfEven(Math.fround(v / scale)))));
      for (let out = 0; out < outFeatures; out++) {
        let sum = 0;
        for (let k = 0; k < inFeatures; k++) sum += (codes[k] as number) * (values[k * outFeatures + out] as number);
        y[token * outFeatures + out] = Math.fround(Math.fround(sum * scale) * (scales[out] as number));
      }
    }
    return rounded(y, dtype);
  });
}

const TOLERANCE = { float32: 1e-5, float16: 2e-3 } as const;

/** The largest magnitude over 127, in the type of the activation. */
function tokenScale(row: Float32Array, dtype: ScaleType): number {
  const largest = row.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const scale = (rounded(Float32Array.of(largest / 127), dtype) as Float32Array)[0] as number;
  return Math.max(scale, dtype === 'float16' ? 2 ** -14 : 2 ** -126);
}

describe.each(['float32', 'float16'] as const)('products of codes, in %s', (dtype) => {
  const opset = { scaleType: dtype } as const;

  it.each(['int8', 'uint8'] as const)(
    'compute what a scale for each token makes of them, by codes of %s',
    async (codes) => {
      await fc.assert(
        fc.asyncProperty(cases, async (each) => {
          const form = { form: 'integer-dynamic', codes, ...opset } as const;
          const dims = [1, each.tokens, each.inFeatures];
          const actual = await run(quantizedModel(each, dtype, form), rounded(each.x, dtype), dims, dtype);
          const expected = simulate(each, dtype, (row) => tokenScale(row, dtype));
          for (const [i, outputs] of expected.entries()) {
            if (outputs.every((y) => y === 0)) expect(actual[i]?.every((y) => y === 0)).toBe(true);
            else expect(relativeDeviation(actual[i] as Float32Array, outputs)).toBeLessThan(TOLERANCE[dtype]);
          }
        }),
        { numRuns: 12 },
      );
    },
  );

  it('compute what one static scale makes of them', async () => {
    await fc.assert(
      fc.asyncProperty(cases, fc.constantFrom(0.5, 0.0625, 2), async (each, scale) => {
        const form = { form: 'integer-static', activation: { dtype: 'int8', scale, zeroPoint: 0 }, ...opset } as const;
        const dims = [1, each.tokens, each.inFeatures];
        const actual = await run(quantizedModel(each, dtype, form), rounded(each.x, dtype), dims, dtype);
        for (const [i, outputs] of simulate(each, dtype, () => scale).entries()) {
          if (outputs.every((y) => y === 0)) expect(actual[i]?.every((y) => y === 0)).toBe(true);
          else expect(relativeDeviation(actual[i] as Float32Array, outputs)).toBeLessThan(TOLERANCE[dtype]);
        }
      }),
      { numRuns: 12 },
    );
  });
});

it('scales sums that are past the end of float16 before it makes halves of them', async () => {
  const inFeatures = 512;
  const each: Case = {
    ...{ tokens: 2, inFeatures, outFeatures: 3 },
    x: new Float32Array(2 * inFeatures).fill(0.25),
    weights: [new Float32Array(3 * inFeatures).fill(0.5), new Float32Array(3 * inFeatures).fill(-0.5)],
  };
  const form = { form: 'integer-dynamic', scaleType: 'float16' } as const;
  const actual = await run(quantizedModel(each, 'float16', form), each.x, [1, 2, inFeatures], 'float16');
  // 512 x 127 x 127 is 126 times what float16 holds.
  expect(relativeDeviation(actual[0] as Float32Array, new Float32Array(6).fill(64))).toBeLessThan(1e-3);
  expect(relativeDeviation(actual[1] as Float32Array, new Float32Array(6).fill(-64))).toBeLessThan(1e-3);
});
