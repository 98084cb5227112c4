import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import { type Calibration, writeCalibration } from '../../../src/calibrate/file.js';
import { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { randn } from '../../../src/numerics/rng.js';
import { fitActivation } from '../../../src/quantize/fit/fit.js';
import { WeightSample } from '../../../src/quantize/fit/weight-sample.js';
import { PLAN_SCHEMA, type PlanFile } from '../../../src/quantize/plan-file.js';
import { tensorHistograms } from '../../../src/quantize/tensor-histograms.js';
import { memory } from '../../helpers/source.js';
import { model, node } from '../helpers/graphs.js';
import { temporaryFolder } from '../helpers/temporary.js';

const CHANNELS = 8;
const PROMPTS = 4;
const ROWS = 32;

/** Normal values, channel k k + 1 times as large. */
function statisticsOf(value: string, seed: number): ActivationStatistics {
  const statistics = new ActivationStatistics(value, CHANNELS);
  for (let prompt = 0; prompt < PROMPTS; prompt++) {
    const sample = randn(seed + prompt, ROWS * CHANNELS).map((x, i) => x * ((i % CHANNELS) + 1));
    const ends = [Math.min, Math.max].map((of) =>
      Float32Array.from({ length: CHANNELS }, (_, k) => of(...sample.filter((_, i) => i % CHANNELS === k))),
    ) as [Float32Array, Float32Array];
    const places = Array.from({ length: ROWS }, (_, position) => ({ position, at: position / ROWS }));
    statistics.add({ prompt, branch: 'cond', bucket: 0, places, heldOfPrompt: ROWS }, ...ends, sample);
  }
  return statistics;
}

const x = statisticsOf('x', 10);
const y = statisticsOf('y', 50);

function transformer() {
  const names = ['a', 'b', 'c'];
  return model({
    nodes: names.map((name, i) => node('MatMul', [name === 'c' ? 'y' : 'x', `w${i}`], name)),
    initializers: names.map((_, i) => Tensor.float32(`w${i}`, [CHANNELS, 4], [...randn(90 + i, CHANNELS * 4)])),
    inputs: ['x', 'y'],
    outputs: names,
  });
}

async function histograms(linears: PlanFile['linears'], { target = 'ort-cpu', weights = true } = {}) {
  const calibration = path.join(await temporaryFolder(), 'calibration.safetensors');
  const contents: Calibration = {
    identity: {
      model: 'f'.repeat(64),
      inputs: 'prompts',
      prompts: 'e'.repeat(64),
      promptCount: PROMPTS,
      seed: 0,
      steps: 1,
      guidance: 1,
      scheduler: 's',
      shape: [4, 1, 4, 4],
      buckets: 1,
      tokens: 'all',
      held: PROMPTS * ROWS,
    },
    provider: 'cpu',
    runtimeVersion: '1',
    wanqVersion: '1',
    shard: null,
    done: [0, 1, 2, 3],
    activations: [x, y],
    outputs: [],
  };
  await writeCalibration(calibration, contents);
  const common = { schema: PLAN_SCHEMA, model: null, method: 'auto', smooth: 'auto', float: 'fp32' };
  const plan = { ...common, target, linears } as PlanFile;
  return tensorHistograms({ calibration, plan, model: weights ? { ...memory, model: transformer() } : undefined });
}

const sum = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);

describe('tensorHistograms', () => {
  it('counts every sample in at most 128 bins that cover what was seen', async () => {
    const [first, second] = await histograms({ a: { precision: 'int8', smooth: 'none', low: -10, high: 12 } });
    for (const [found, { total }] of [
      [first, x],
      [second, x],
    ] as const) {
      expect(found?.tensor).toBe('x');
      expect(found?.counts.length).toBeLessThanOrEqual(128);
      expect(sum(found?.counts ?? [])).toBe(PROMPTS * ROWS * CHANNELS);
      expect(found?.from).toBeLessThanOrEqual(total.call(x).range.min);
      expect(found?.to).toBeGreaterThan(total.call(x).range.max);
    }
    expect(first).toMatchObject({ linears: ['a'], low: -10, high: 12, note: 'Of all samples.' });
    expect(first?.clipped).toBeCloseTo(x.total().histogram.shareOutside(-10, 12), 12);
    expect(second).toMatchObject({ linears: ['b'], low: null, high: null, clipped: null });
  });

  it('shows a symmetric range as it is quantized', async () => {
    const [found] = await histograms(
      { a: { precision: 'int8', smooth: 'none', low: -10, high: 12 } },
      { target: 'tensorrt' },
    );
    expect(found).toMatchObject({ low: -12, high: 12 });
  });

  it('shows smoothed values as quantizing has them', async () => {
    const of = { precision: 'int8', smooth: 0.5 } as const;
    const linears = findLinears(transformer().graph).filter(({ activation }) => activation === 'x');
    const source = { statistics: x, held: x.held, weights: await WeightSample.read(linears as Linear[], memory) };
    const scale = { dtype: 'uint8', scaleType: 'float32', percentile: 99.99 } as const;
    const { range } = fitActivation(source, { ...scale, method: 'percentile', smooth: 0.5 });
    const ends = { low: (range?.low as number) * 0.5, high: (range?.high as number) * 0.5 };
    const prescribed = fitActivation(source, { ...scale, method: 'minmax', smooth: 0.5, prescribed: ends }).range;
    const [found, other] = await histograms({ a: { ...of, ...ends }, b: { ...of, ...ends } });
    expect(found).toMatchObject({ tensor: 'x', linears: ['a', 'b'], ...ends, min: range?.min, max: range?.max });
    expect(found?.clipped).toBeGreaterThan(0);
    expect(found?.clipped).toBeCloseTo(prescribed?.clippedShare as number, 12);
    expect(found?.note).toContain('After smoothing of strength 0.5');
    expect(other).toMatchObject({ tensor: 'y', linears: ['c'] });
  });

  it('draws no range of smoothed values on values that are not, where the weights are not at hand', async () => {
    const [found] = await histograms(
      { a: { precision: 'int8', input: 'x', smooth: 0.5, low: -1, high: 1 } },
      { weights: false },
    );
    expect(found).toMatchObject({ linears: ['a'], low: null, high: null, clipped: null, ...x.total().range });
    expect(found?.note).toContain('before smoothing');
  });

  it.each([
    ['int8-weights', 'It is not quantized.'],
    ['int8-dynamic', 'Each token has a range of its own.'],
    ['int8', 'The plan does not say its range.'],
  ] as const)('has no range for %s without one', async (precision, note) => {
    const [found] = await histograms({ a: { precision }, b: { precision } });
    expect(found).toMatchObject({ linears: ['a', 'b'], low: null, high: null, clipped: null });
    expect(found?.note).toContain(note);
  });
});
