import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Calibration, readCalibration, writeCalibration } from '../../../../src/calibrate/file.js';
import { ActivationStatistics } from '../../../../src/calibrate/statistics.js';
import { WanqError } from '../../../../src/errors.js';
import { int } from '../../../../src/ir/attribute.js';
import { DataType } from '../../../../src/ir/dtype.js';
import type { Graph } from '../../../../src/ir/graph.js';
import { Tensor, type TensorSource } from '../../../../src/ir/tensor.js';
import { activationScale } from '../../../../src/numerics/int8.js';
import { randn } from '../../../../src/numerics/rng.js';
import { type FitOptions, fitActivation } from '../../../../src/quantize/fit/fit.js';
import { type FittedPlan, fitPlan } from '../../../../src/quantize/fit/plan.js';
import { WeightSample } from '../../../../src/quantize/fit/weight-sample.js';
import { makePlan, type PlannedActivation, type PlanOptions } from '../../../../src/quantize/plan.js';
import { PLAN_SCHEMA, type PlanEntry, type PlanFile, planToFile } from '../../../../src/quantize/plan-file.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../../../src/util/safetensors.js';
import { memory } from '../../../helpers/source.js';
import { channelExtremes } from '../../../integration/support/arrays.js';
import { graph, node } from '../../helpers/graphs.js';
import { temporaryFolder } from '../../helpers/temporary.js';

const CHANNELS = 8;
const PROMPTS = 4;
const ROWS = 6;

/** Linears of a block by what they read: h is read by three, the last of which is no linear of the blocks. */
const LINEARS: [weight: string, activation: string][] = [
  ['blocks.0.self_attn.q', 'h'],
  ['blocks.0.self_attn.k', 'h'],
  ['head.head', 'h'],
  ['blocks.0.ffn.0', 'f'],
  ['blocks.0.ffn.2', 'g'],
];
const Q = 'blocks.0.attn1.q';
const K = 'blocks.0.attn1.k';
const UP = 'blocks.0.ffn.up';
const DOWN = 'blocks.0.ffn.down';

const transformer = graph({
  nodes: LINEARS.map(([name, activation]) => node('MatMul', [activation, `${name}.weight`], `${name}.out`)),
  initializers: LINEARS.map(([name], i) =>
    Tensor.float32(`${name}.weight`, [CHANNELS, 5 + i], randn(50 + i, CHANNELS * (5 + i))),
  ),
  inputs: ['h', 'f', 'g'],
});

/** Channel 1 of every activation is an outlier. */
function statisticsOf(value: string, keeps = true): ActivationStatistics {
  const statistics = new ActivationStatistics(value, CHANNELS);
  for (let prompt = 0; prompt < PROMPTS; prompt++) {
    const seed = 100 * prompt + value.charCodeAt(0);
    const sample = randn(seed, ROWS * CHANNELS).map((v, i) => Math.tanh(v) * (i % CHANNELS === 1 ? 30 : 1));
    const places = Array.from({ length: ROWS }, (_, position) => ({ position, at: (position + 0.5) / ROWS }));
    const { min, max } = channelExtremes(sample, CHANNELS);
    const forward = { prompt, branch: 'cond', bucket: 0, places: keeps ? places : [], heldOfPrompt: ROWS } as const;
    statistics.add(forward, min, max, sample);
  }
  return statistics;
}

function calibrationOf(values: readonly string[] = ['h', 'f', 'g'], keeps = true): Calibration {
  return {
    identity: {
      ...{ model: 'abc', inputs: 'prompts', prompts: 'def', promptCount: PROMPTS, seed: 0, steps: 1, guidance: 1 },
      ...{ scheduler: 'UniPCMultistepScheduler', shape: [1, 1, 1, 1], buckets: 1, tokens: 'all' },
      held: keeps ? PROMPTS * ROWS : 0,
    },
    ...{ provider: 'cpu', runtimeVersion: '1', wanqVersion: '1', shard: null, done: [0, 1, 2, 3], outputs: [] },
    activations: values.map((value) => statisticsOf(value, keeps)),
  };
}

/** Writes a calibration and reads it as quantizing does: without its tokens. */
async function saved(
  calibration: Calibration,
  change: (tensors: Map<string, SafeTensor>) => void = () => undefined,
): Promise<{ file: string; calibration: Calibration }> {
  const file = path.join(await temporaryFolder(), 'calibration.safetensors');
  await writeCalibration(file, calibration);
  const { tensors, metadata } = await readSafetensors(file);
  const changed = new Map(tensors);
  change(changed);
  await writeSafetensors(file, { tensors: changed, metadata });
  return { file, calibration: await readCalibration(file, { held: false }) };
}

const OPTIONS: PlanOptions = {
  ...{ scheme: 'blocks', target: 'tensorrt', method: 'auto', smooth: 'auto', percentile: 99.9, keep: [] },
};

async function fitted(
  changes: Partial<PlanOptions> = {},
  {
    on = transformer,
    of = calibrationOf(),
    change = () => undefined,
    weights = memory,
    onFitted,
  }: {
    on?: Graph;
    of?: Calibration;
    change?: (tensors: Map<string, SafeTensor>) => void;
    weights?: TensorSource;
    onFitted?: (done: number, total: number) => void;
  } = {},
): Promise<FittedPlan> {
  const { file, calibration } = await saved(of, change);
  const options = { ...OPTIONS, ...changes };
  return fitPlan(makePlan(on, options, calibration), options, { calibration, file, weights, onFitted });
}

/** A plan file with these entries. */
function planOf(linears: Record<string, PlanEntry>, changes: Partial<PlanFile> = {}): Partial<PlanOptions> {
  const common = {
    schema: PLAN_SCHEMA,
    model: null,
    target: 'tensorrt',
    method: 'auto',
    smooth: 'auto',
    float: 'fp32',
  };
  return { ...changes, plan: { ...common, ...changes, linears } as PlanFile };
}

const rowOf = ({ plan }: FittedPlan, role: string) => plan.rows.find((row) => row.role === role);
/** What is written of a linear's input, with what was measured of it. */
const scaleOf = (made: FittedPlan, role: string): PlannedActivation | undefined => {
  const found = made.quantized.find(({ linear }) => linear.role === role);
  const activation = found && 'activation' in found ? found.activation : undefined;
  expect(rowOf(made, role)?.activation ?? undefined).toBe(activation);
  return activation as PlannedActivation | undefined;
};
const groupsOf = ({ smoothed }: FittedPlan): string[][] =>
  smoothed.map(({ linears }) => linears.map(({ role }) => role));

describe('fitPlan', () => {
  it('fits linears that share an input once, for all of them', async () => {
    const made = await fitted();
    expect(groupsOf(made)).toEqual([[Q, K], [UP], [DOWN]]);
    expect(scaleOf(made, Q)).toEqual(scaleOf(made, K));
    const [{ linears, factors }] = made.smoothed as [(typeof made.smoothed)[number]];
    const h = statisticsOf('h');
    const source = { statistics: h, held: h.held, weights: await WeightSample.read(linears, memory) };
    const options: FitOptions = { ...OPTIONS, smooth: 'auto', dtype: 'int8', scaleType: 'float32' };
    const { smoothing, range } = fitActivation(source, options);
    expect(smoothing?.factors).toEqual(factors);
    expect(range).toBeDefined();
    expect(scaleOf(made, Q)).toMatchObject({ ...range, ...activationScale('int8', range?.low ?? 0, range?.high ?? 0) });
    for (const role of [Q, K]) expect(rowOf(made, role)?.smoothing).toBe(smoothing?.alpha);
  });

  it('says in the plan what was chosen, and nothing of what stays as it is', async () => {
    const made = await fitted();
    for (const role of [Q, K, UP, DOWN]) {
      const row = rowOf(made, role);
      expect(row?.smoothing).toBeGreaterThan(0);
      expect(row?.activation).toEqual(scaleOf(made, role));
    }
    expect(rowOf(made, 'proj_out')).toMatchObject({ decision: 'keep', activation: null, smoothing: null });
    expect(made.plan).toMatchObject({ method: 'auto', smooth: 'auto' });
  });

  it('has the range of the smoothed activation, which is narrower', async () => {
    const [smooth, none] = [await fitted({ method: 'minmax' }), await fitted({ method: 'minmax', smooth: 'none' })];
    expect(scaleOf(none, UP)?.max).toBeGreaterThan(25);
    expect(scaleOf(smooth, UP)?.max).toBeLessThan(20);
    expect(none.smoothed).toEqual([]);
    expect(rowOf(none, UP)?.smoothing).toBeNull();
  });

  it('smooths what has one scale a token, and has no static scale for it', async () => {
    const made = await fitted({ target: 'ort-cuda' });
    expect(groupsOf(made)).toEqual([[Q, K], [UP], [DOWN]]);
    expect(made.quantized.map(({ form }) => form)).toEqual(new Array(4).fill('integer-dynamic'));
    expect(rowOf(made, Q)).toMatchObject({ decision: 'int8-dynamic', activation: null });
    expect(rowOf(made, Q)?.smoothing).toBeGreaterThan(0);
  });

  it('neither smooths nor measures the inputs of weights that are quantized alone', async () => {
    const unread = { read: () => Promise.reject(new Error()), readInto: () => Promise.reject(new Error()) };
    const made = await fitted({ target: 'webgpu' }, { weights: unread });
    expect(made.quantized.map(({ form }) => form)).toEqual(new Array(4).fill('weights'));
    expect(made.smoothed).toEqual([]);
    expect(rowOf(made, Q)).toMatchObject({ decision: 'int8-weights', activation: null, smoothing: null });
  });

  it('tells how far it is', async () => {
    const calls: [number, number][] = [];
    await fitted({}, { onFitted: (done, total) => calls.push([done, total]) });
    expect(calls).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
  });

  it('reads the weights of a few linears, and no tokens, where all is given', async () => {
    const unread = { read: () => Promise.reject(new Error()), readInto: () => Promise.reject(new Error()) };
    const made = await fitted(
      { method: 'minmax', smooth: 'none' },
      { weights: unread, of: calibrationOf(undefined, false) },
    );
    expect(scaleOf(made, Q)).toMatchObject({ method: 'minmax', headroom: 1 });
  });

  it('leaves a product in BF16 as it is where it cannot be divided, and finds its range all the same', async () => {
    const [weight] = [randn(50, CHANNELS * 4)];
    const mixed = graph({
      nodes: [
        node('MatMul', ['h', 'w'], 'a'),
        node('Cast', ['w'], 'cast', [int('to', DataType.bfloat16)]),
        node('MatMul', ['f', 'cast'], 'b'),
      ],
      initializers: [Tensor.float32('w', [CHANNELS, 4], weight)],
      inputs: ['h', 'f'],
    });
    const made = await fitted({}, { on: mixed });
    expect(made.quantized).toHaveLength(2);
    expect(made.smoothed.flatMap(({ linears }) => linears.map(({ output }) => output))).toEqual(['a']);
    expect(made.plan.rows.map(({ smoothing }) => smoothing === null)).toEqual([false, true]);
    expect(made.plan.rows[1]?.activation?.max).toBeGreaterThan(25);
  });
});

describe('fitPlan of a plan file', () => {
  it('takes smoothing from the entries, and what an entry leaves out from the plan', async () => {
    const given = planOf(
      {
        [Q]: { precision: 'int8', smooth: 0.25 },
        [UP]: { precision: 'int8', smooth: 'none' },
        [DOWN]: { precision: 'int8' },
      },
      { smooth: 0.75, method: 'minmax' },
    );
    const made = await fitted({ ...given, smooth: 0.75, method: 'minmax' });
    expect([Q, UP, DOWN].map((role) => rowOf(made, role)?.smoothing)).toEqual([0.25, null, 0.75]);
    expect(groupsOf(made)).toEqual([[Q], [DOWN]]);
    expect(scaleOf(made, UP)?.max).toBeGreaterThan(25);
  });

  it('takes the ends of the range that an entry gives, and chooses the others', async () => {
    const given = planOf({
      [Q]: { precision: 'int8', smooth: 'none', low: -5, high: 9 },
      [UP]: { precision: 'int8', smooth: 'none', high: 70 },
      [DOWN]: { precision: 'int8', smooth: 'none' },
    });
    const made = await fitted({ ...given, method: 'minmax', smooth: 'none' });
    expect(scaleOf(made, Q)).toMatchObject({ low: -5, high: 9, ...activationScale('int8', -5, 9) });
    const { min, max } = statisticsOf('f').total().range;
    expect(scaleOf(made, UP)).toMatchObject({ low: min, high: 70, min, max, ...activationScale('int8', min, 70) });
    const { range } = statisticsOf('g').total();
    expect(scaleOf(made, DOWN)).toMatchObject({ low: range.min, high: range.max });
  });

  it('says which share a given range clips', async () => {
    const given = planOf({ [UP]: { precision: 'int8', smooth: 'none', low: -0.5, high: 0.5 } });
    const made = await fitted({ ...given, method: 'minmax', smooth: 'none' });
    const f = statisticsOf('f').total().histogram;
    expect(scaleOf(made, UP)?.clippedShare).toBeCloseTo(f.shareOutside(-0.5, 0.5), 9);
  });

  it('fits linears that share an input together where their entries say the same, and apart where not', async () => {
    const together = planOf({ [Q]: { precision: 'int8', smooth: 0.5 }, [K]: { precision: 'int8', smooth: 0.5 } });
    expect(groupsOf(await fitted(together))).toEqual([[Q, K]]);
    const strengths = planOf({ [Q]: { precision: 'int8', smooth: 0.5 }, [K]: { precision: 'int8', smooth: 0.6 } });
    expect(groupsOf(await fitted(strengths))).toEqual([[Q], [K]]);
    const ranges = planOf({
      [Q]: { precision: 'int8', smooth: 0.5, low: -3 },
      [K]: { precision: 'int8', smooth: 0.5, low: -4 },
    });
    const made = await fitted(ranges);
    expect(groupsOf(made)).toEqual([[Q], [K]]);
    expect([scaleOf(made, Q)?.low, scaleOf(made, K)?.low]).toEqual([-3, -4]);
    const precisions = planOf(
      { [Q]: { precision: 'int8', smooth: 0.5 }, [K]: { precision: 'int8-dynamic', smooth: 0.5 } },
      { target: 'ort-cuda' },
    );
    expect(groupsOf(await fitted({ ...precisions, target: 'ort-cuda' }))).toEqual([[Q], [K]]);
  });

  it.each(['tensorrt', 'ort-cpu', 'ort-cuda'] as const)(
    'chooses again what a plan says was chosen, for %s',
    async (target) => {
      const made = await fitted({ target });
      const file = planToFile(made.plan);
      for (const { smooth } of Object.values(file.linears)) expect(smooth).toBeGreaterThan(0);
      const { method, smooth } = file;
      const again = await fitted({ target, method, smooth, plan: file });
      expect(groupsOf(again)).toEqual(groupsOf(made));
      again.smoothed.forEach(({ factors }, i) => {
        expect(factors).toEqual(made.smoothed[i]?.factors);
      });
      for (const role of [Q, K, UP, DOWN]) {
        const { low, high, scale, zeroPoint } = scaleOf(made, role) ?? {};
        expect(scaleOf(again, role) ?? {}).toMatchObject(low === undefined ? {} : { low, high, scale, zeroPoint });
        expect(rowOf(again, role)?.smoothing).toBe(rowOf(made, role)?.smoothing);
      }
    },
  );

  it('reads no tokens of a calibration where the plan says all that there is to choose', async () => {
    const entry = { precision: 'int8', smooth: 'none', low: -1, high: 1 } as const;
    const given = planOf(Object.fromEntries([Q, K, UP, DOWN].map((role) => [role, entry])));
    const made = await fitted(given, { of: calibrationOf(undefined, false) });
    expect(scaleOf(made, Q)).toMatchObject({ low: -1, high: 1 });
  });

  it('smooths nothing that the plan keeps in floats', async () => {
    const made = await fitted(planOf({ [Q]: { precision: 'int8' }, [K]: { precision: 'keep', smooth: 0.5 } }));
    expect(groupsOf(made)).toEqual([[Q]]);
    expect(rowOf(made, K)).toMatchObject({ decision: 'keep', smoothing: null });
  });
});

describe('fitPlan refuses', () => {
  /** Code and message of a refusal. */
  const refusal = (made: Promise<FittedPlan>): Promise<string> =>
    made.then(
      () => 'no refusal',
      (error: unknown) => (error instanceof WanqError ? `${error.code} ${error.message} ${error.hint}` : String(error)),
    );

  it.each<[string, Partial<PlanOptions>]>([
    ['smoothing by what errs least', { method: 'kl' }],
    ['smoothing by a given strength', { method: 'kl', smooth: 0.5 }],
    ['ranges by what errs least', { smooth: 'none' }],
  ])('a calibration that kept no tokens, for %s', async (_, changes) => {
    const said = await refusal(fitted(changes, { of: calibrationOf(undefined, false) }));
    expect(said).toMatch(/^CALIBRATION_INVALID .* keeps no tokens .*--method minmax --smooth none$/);
  });

  it.each<[string, SafeTensor]>([
    ['of another type', { dtype: 'F64', shape: [1, CHANNELS], data: new Float64Array(CHANNELS) }],
    ['of other channels', { dtype: 'F32', shape: [1, CHANNELS + 1], data: new Float32Array(CHANNELS + 1) }],
  ])('kept tokens %s', async (_, tensor) => {
    const said = await refusal(fitted({}, { change: (tensors) => tensors.set('held/0/2', tensor) }));
    expect(said).toMatch(/^CALIBRATION_INVALID /);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])(
    'kept tokens that hold %d, of an activation that does not',
    async (broken) => {
      const data = new Float32Array(ROWS * CHANNELS).fill(1).with(5, broken);
      const tensor = { dtype: 'F32', shape: [ROWS, CHANNELS], data } as const;
      const said = await refusal(fitted({}, { change: (tensors) => tensors.set('held/0/2', tensor) }));
      expect(said).toMatch(/^CALIBRATION_INVALID .* keeps tokens of h that hold NaN or infinity/);
    },
  );

  it('a calibration in which tokens of a prompt are missing', async () => {
    const said = await refusal(fitted({}, { change: (tensors) => tensors.delete('held/0/2') }));
    expect(said).toMatch(/^CALIBRATION_INVALID /);
  });

  it.each(['tensorrt', 'ort-cuda'] as const)('an input that was never observed, for %s', async (target) => {
    const said = await refusal(fitted({ target }, { of: calibrationOf(['h', 'f']) }));
    expect(said).toMatch(/^CALIBRATION_MISMATCH .* no statistics of g /);
  });
});
