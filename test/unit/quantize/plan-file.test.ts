import { access, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Calibration } from '../../../src/calibrate/file.js';
import { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { WanqError } from '../../../src/errors.js';
import type { Graph } from '../../../src/ir/graph.js';
import { Tensor, type TensorSource } from '../../../src/ir/tensor.js';
import { MAX_PLAN_BYTES } from '../../../src/limits.js';
import { type FittedPlan, fitPlan } from '../../../src/quantize/fit/plan.js';
import { makePlan, needsCalibration, type PlannedActivation, type PlanOptions } from '../../../src/quantize/plan.js';
import {
  PLAN_SCHEMA,
  type PlanEntry,
  type PlanFile,
  planKeys,
  planToFile,
  readPlan,
  resolvePlan,
  writePlan,
} from '../../../src/quantize/plan-file.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { expectRefusal, expectRejection, thrownBy } from '../helpers/errors.js';
import { graph, node } from '../helpers/graphs.js';
import { temporaryFolder } from '../helpers/temporary.js';

/** Weight names with the value each is multiplied by. */
const LINEARS: [weight: string, activation: string][] = [
  ['time_embedding.0', 'timestep'],
  ['text_embedding.0', 'text'],
  ['blocks.0.self_attn.q', 'h'],
  ['blocks.0.self_attn.k', 'h'],
  ['blocks.0.ffn.0', 'f'],
  ['blocks.0.ffn.2', 'g'],
  ['blocks.1.ffn.0', 'f1'],
  ['head.head', 'last'],
];
const ACTIVATIONS = [...new Set(LINEARS.map(([, activation]) => activation))];

const transformer = graph({
  nodes: LINEARS.map(([name, activation]) => node('MatMul', [activation, `${name}.weight`], `${name}.out`)),
  initializers: LINEARS.map(([name]) => Tensor.float32(`${name}.weight`, [3, 4], new Float32Array(12))),
  inputs: ACTIVATIONS,
});

/** Each activation has a range of its own, with ends that are no short decimals. */
const calibration = {
  activations: ACTIVATIONS.map((value, i) => {
    const statistics = new ActivationStatistics(value, 3);
    for (const x of [-1 / (i + 3), 2 / 3 + i]) {
      const seen = new Float32Array(3).fill(x);
      statistics.slice('cond', 0).add(seen, seen, seen);
    }
    return statistics;
  }),
  outputs: [],
} as unknown as Calibration;

const OPTIONS: PlanOptions = { scheme: 'ffn', target: 'tensorrt', method: 'minmax', percentile: 99.9, keep: [] };
const unread: TensorSource = {
  read: () => Promise.reject(new Error('weights are not read')),
  readInto: () => Promise.reject(new Error('weights are not read')),
};

/** @param of null: without a calibration */
async function planned(
  changes: Partial<PlanOptions> = {},
  on: Graph = transformer,
  of: Calibration | null = calibration,
): Promise<FittedPlan> {
  const options = { ...OPTIONS, ...changes };
  const bound = makePlan(on, options, of ?? undefined);
  if (of === null && needsCalibration(options)) return { ...bound, quantized: [], smoothed: [] };
  return fitPlan(bound, options, of ? { calibration: of, file: '', weights: unread } : undefined);
}

const temporaryFile = async (): Promise<string> => path.join(await temporaryFolder(), 'plan.json');

/** What quantizing takes from a plan file before it plans. */
const optionsOf = (plan: PlanFile): Partial<PlanOptions> => {
  const { target, method, smooth, float } = plan;
  return { target, method, smooth, float, keep: [], plan };
};

/** A plan as it comes back from its file. */
async function throughFile(made: FittedPlan): Promise<PlanFile> {
  const file = await temporaryFile();
  await writePlan(file, planToFile(made.plan));
  return readPlan(file);
}

/** A plan of these linears. */
const planOf = (linears: Record<string, PlanEntry>, changes: Partial<PlanFile> = {}): PlanFile => ({
  ...{ schema: PLAN_SCHEMA, model: null, target: 'tensorrt', method: 'minmax', smooth: 'none', float: 'fp32' },
  ...changes,
  linears,
});

/** What counts of a quantized linear; a range that is given was not searched for. */
function withoutSearch(linear: FittedPlan['quantized'][number]): object {
  if (!('activation' in linear)) return linear;
  const { method, candidates, headroom, ...activation } = linear.activation as PlannedActivation;
  return { ...linear, activation };
}

/** The rows of a plan; of what is kept, a plan file tells no reason. */
function rowsOf({ plan }: FittedPlan): object[] {
  return plan.rows.map(({ reason, activation, ...row }) => {
    const { method, candidates, headroom, ...written } = activation ?? {};
    return { ...row, written, reason: row.decision === 'keep' ? '' : reason };
  });
}

const decisions = ({ plan }: Pick<FittedPlan, 'plan'>): Record<string, string> =>
  Object.fromEntries(plan.rows.map(({ role, decision }) => [role, decision]));

describe('a plan', () => {
  it.each<[string, Partial<PlanOptions>]>([
    ['the feed-forward linears', {}],
    ['all linears of the blocks', { scheme: 'blocks', method: 'percentile' }],
    ['unsigned codes', { target: 'ort-cpu', scheme: 'blocks', method: 'kl' }],
    ['the rest stored in FP16', { target: 'ort-cpu', float: 'fp16' }],
    ['the rest computed in FP16', { float: 'fp16', scheme: 'blocks' }],
    ['some kept', { scheme: 'blocks', keep: ['blocks.{0,-1}.ffn.up', '*.attn1.k'] }],
    ['one scale a token', { target: 'ort-cuda', scheme: 'blocks' }],
    ['one scale a token on a CPU', { target: 'ort-cpu', activations: 'dynamic' }],
    ['weights alone', { target: 'webgpu', float: 'fp16' }],
    ['one scale a tensor for ort-cuda', { target: 'ort-cuda', activations: 'static' }],
  ])('decides the same when it comes back from its file: %s', async (_, changes) => {
    const made = await planned(changes);
    const again = await planned(optionsOf(await throughFile(made)));
    expect(rowsOf(again)).toEqual(rowsOf(made));
    expect(again.quantized.map(withoutSearch)).toEqual(made.quantized.map(withoutSearch));
    expect(again.halved).toEqual(made.halved);
    expect(again.computed).toEqual(made.computed);
    expect(again.smoothed).toEqual(made.smoothed);
    const { bytesBefore, bytesAfter, target, method, float } = made.plan;
    expect(again.plan).toMatchObject({ bytesBefore, bytesAfter, target, method, float, scheme: 'plan' });
  });

  it('is written twice with the same bytes, and ends with a line', async () => {
    const { plan } = await planned({ scheme: 'blocks' });
    const [first, second] = [await temporaryFile(), await temporaryFile()];
    await writePlan(first, planToFile(plan));
    await writePlan(second, planToFile(plan));
    const text = await readFile(first, 'utf8');
    expect(await readFile(second, 'utf8')).toBe(text);
    expect(text).toMatch(/^\{\n {2}"schema": 1,\n[\s\S]*\}\n$/);
  });

  it('has what a person may edit: ranges, smoothing, reasons', async () => {
    const file = planToFile((await planned({ float: 'fp16', target: 'ort-cpu' })).plan);
    expect(file).toMatchObject({
      schema: PLAN_SCHEMA,
      model: null,
      target: 'ort-cpu',
      method: 'minmax',
      smooth: 'none',
    });
    const up = file.linears['blocks.0.ffn.up'];
    const { min: low, max: high } = (calibration.activations[3] as ActivationStatistics).total().range;
    expect(up).toEqual({
      precision: 'int8',
      input: 'f',
      smooth: 'none',
      low,
      high,
      reason: expect.stringContaining('feed-forward'),
    });
    expect(file.linears['blocks.0.attn1.q']).toEqual({ precision: 'float16', reason: expect.any(String) });
    // Of the timestep's embedding nothing is changed.
    expect(Object.keys(file.linears)).not.toContain('time_embedder.1');
  });

  it('has neither ranges nor strengths of smoothing where nothing was measured', async () => {
    const { linears } = planToFile((await planned({ smooth: 'auto' }, transformer, null)).plan);
    const { precision, ...rest } = linears['blocks.0.ffn.up'] as PlanEntry;
    expect(precision).toBe('int8');
    for (const name of ['smooth', 'low', 'high']) expect(rest).not.toHaveProperty(name);
  });

  it('keeps what it does not name as it is, whatever the type of the rest', async () => {
    const entries = { 'blocks.0.ffn.up': { precision: 'int8' } } as const;
    for (const float of ['fp32', 'fp16'] as const) {
      const made = await planned(optionsOf(planOf(entries, { float })));
      const { 'blocks.0.ffn.up': up, ...others } = decisions(made);
      expect(up).toBe('int8');
      expect(new Set(Object.values(others))).toEqual(new Set(['keep']));
      expect(made.plan.rows.filter(({ reason }) => reason === 'not in the plan')).toHaveLength(LINEARS.length - 1);
      expect([made.halved.size, made.computed.length]).toEqual([0, 0]);
    }
  });

  it('gives the reasons that stand in it', async () => {
    const entries = {
      'blocks.0.ffn.up': { precision: 'int8', reason: 'I say so' },
      proj_out: { precision: 'keep' },
    } as const;
    const { plan } = await planned(optionsOf(planOf(entries)));
    const reasons = new Map(plan.rows.map(({ role, reason }) => [role, reason]));
    expect([reasons.get('blocks.0.ffn.up'), reasons.get('proj_out')]).toEqual(['I say so', 'the plan']);
  });

  it('goes before the scheme, --keep and --activations', async () => {
    const plan = planOf({ proj_out: { precision: 'int8' } }, { target: 'ort-cuda' });
    const options = { ...optionsOf(plan), scheme: 'blocks', activations: 'dynamic' } as const;
    const made = await planned(options);
    expect(Object.entries(decisions(made)).filter(([, decision]) => decision !== 'keep')).toEqual([
      ['proj_out', 'int8'],
    ]);
  });

  it('stores linears in FP16 that it says so of', async () => {
    const entries = { 'blocks.0.ffn.up': { precision: 'int8' }, 'blocks.0.attn1.q': { precision: 'float16' } } as const;
    const stored = await planned(optionsOf(planOf(entries, { target: 'ort-cpu' })));
    expect(decisions(stored)).toMatchObject({ 'blocks.0.attn1.q': 'float16', 'blocks.0.attn1.k': 'keep' });
    expect([...stored.halved]).toEqual(['blocks.0.self_attn.q.weight']);
    expect(stored.plan.rows[2]).toMatchObject({ bytesBefore: 48, bytesAfter: 24 });
    const computed = await planned(optionsOf(planOf(entries, { float: 'fp16' })));
    expect(computed.computed.map(({ role }) => role)).toEqual(['blocks.0.attn1.q']);
  });

  it.each(['ort-cpu', 'tensorrt', 'ort-cuda', 'directml', 'webgpu'] as const)(
    'quantizes weights alone where it says so, without a calibration: %s',
    async (target) => {
      const plan = planOf({ 'blocks.0.ffn.up': { precision: 'int8-weights' } }, { target });
      const options = { ...OPTIONS, ...optionsOf(plan) };
      expect(needsCalibration(options)).toBe(false);
      const made = await planned(options, transformer, null);
      expect(made.quantized).toMatchObject([{ form: 'weights', linear: { role: 'blocks.0.ffn.up' } }]);
      expect(decisions(made)['blocks.0.ffn.up']).toBe('int8-weights');
    },
  );

  it('needs a calibration where one scale a tensor is to be found, or values may be too large for FP16', () => {
    const needs = (precision: PlanEntry['precision'], changes: Partial<PlanFile>): boolean =>
      needsCalibration({ ...OPTIONS, ...optionsOf(planOf({ proj_out: { precision } }, changes)) });
    expect(needs('int8', {})).toBe(true);
    expect(needs('int8-dynamic', { target: 'ort-cuda' })).toBe(false);
    expect(needs('int8-dynamic', { target: 'ort-cuda', float: 'fp16' })).toBe(true);
    expect(needs('int8-weights', { target: 'ort-cpu', float: 'fp16' })).toBe(false);
  });

  it('refuses a precision that the target does not take, and says which it does', async () => {
    const made = planned(optionsOf(planOf({ 'blocks.0.ffn.up': { precision: 'int8-dynamic' } })));
    await expect(made).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringMatching(
        /^target tensorrt does not take int8-dynamic, which blocks\.0\.ffn\.up is to have$/,
      ),
      hint: expect.stringContaining('int8, int8-weights'),
    });
  });

  it('refuses to quantize nothing', async () => {
    const nothing: Record<string, PlanEntry>[] = [{}, { proj_out: { precision: 'float16' } }];
    for (const linears of nothing) {
      const made = planned(optionsOf(planOf(linears)));
      await expect(made).rejects.toMatchObject({
        code: 'MODEL_UNSUPPORTED',
        message: expect.stringContaining('the plan quantizes none'),
      });
    }
  });
});

describe('names in a plan', () => {
  const statisticsOfX = new ActivationStatistics('x', 1);
  statisticsOfX.slice('cond', 0).add(Float32Array.of(-1), Float32Array.of(1), Float32Array.of(1));
  const alike = (names: readonly string[]) =>
    graph({
      nodes: names.map((name, i) => node('MatMul', ['x', `w${i}`], `y${i}`, [], { name })),
      initializers: names.map((_, i) => Tensor.float32(`w${i}`, [1, 1], [1])),
      inputs: ['x'],
    });

  it('are roles, and node names where several linears have one role', () => {
    const mixed = graph({
      nodes: [node('MatMul', ['x', 'w'], 'a'), node('MatMul', ['x', 'v'], 'b'), node('MatMul', ['x', 'proj_out'], 'c')],
      initializers: ['w', 'v', 'proj_out'].map((name) => Tensor.float32(name, [1, 1], [1])),
      inputs: ['x'],
    });
    expect(planKeys(findLinears(mixed))).toEqual(['a', 'b', 'proj_out']);
    const entries = resolvePlan(
      findLinears(mixed),
      planOf({ b: { precision: 'int8' }, proj_out: { precision: 'keep' } }),
    );
    expect([...entries].map(([{ output }, { precision }]) => [output, precision])).toEqual([
      ['b', 'int8'],
      ['c', 'keep'],
    ]);
  });

  it.each([
    ['have no names', ['', '']],
    ['share a name', ['n', 'n']],
  ])('tell linears of one role apart whose nodes %s', async (_, names) => {
    const keys = planKeys(findLinears(alike(names)));
    expect(new Set(keys).size).toBe(2);
    const of = { activations: [statisticsOfX], outputs: [] } as unknown as Calibration;
    const made = await planned({}, alike(names), of);
    const file = planToFile(made.plan);
    expect(Object.keys(file.linears)).toHaveLength(2);
    const again = await planned(optionsOf(file), alike(names), of);
    expect(again.plan.rows.map(({ decision }) => decision)).toEqual(['int8', 'int8']);
  });

  it('that no linear has are refused, with the nearest that are', () => {
    const resolve = (key: string) => resolvePlan(findLinears(transformer), planOf({ [key]: { precision: 'int8' } }));
    const error = thrownBy(() => resolve('blocks.0.fnn.up'));
    expect(error).toMatchObject({
      code: 'PLAN_INVALID',
      message: 'the plan names "blocks.0.fnn.up", and no linear has that name',
    });
    expect(error.hint).toMatch(/^the nearest are blocks\.0\.ffn\.up, /);
    expect(thrownBy(() => resolve('blocks.2.ffn.up')).hint).toContain('blocks.1.ffn.up');
    // Patterns are for --keep.
    expectRefusal(() => resolve('blocks.*.ffn.up'), 'PLAN_INVALID');
    expectRefusal(() => resolve('__proto__'), 'PLAN_INVALID');
    expect(thrownBy(() => resolve('a\nb')).message).not.toContain('\n');
  });
});

describe('readPlan refuses', () => {
  const up = (entry: unknown) => ({ ...planOf({}), linears: { 'blocks.0.ffn.up': entry } });

  /** The refusal of a file with this text. */
  async function refusalOf(text: string | Uint8Array): Promise<WanqError> {
    const file = await temporaryFile();
    await writeFile(file, text);
    const error = await readPlan(file).then(
      () => new Error('nothing was refused'),
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof WanqError)) throw error;
    expect(error.message).toMatch(/^\S+plan\.json: [^\n]+$/);
    expect(error.hint).toContain('--save-plan');
    return error;
  }

  it.each<[string, string | Uint8Array]>([
    ['nothing', ''],
    ['what is no JSON', '{"schema": 1,'],
    ['bytes', Uint8Array.of(0xff, 0x00, 0x7b)],
  ])('%s', async (_, text) => {
    expect(await refusalOf(text)).toMatchObject({ code: 'PLAN_INVALID', message: expect.stringMatching(/not JSON$/) });
  });

  it.each<[string, unknown, RegExp]>([
    ['null', null, /the file: /],
    ['a list', [], /the file: /],
    ['another schema', { ...planOf({}), schema: 2 }, /schema: .*1/],
    ['no schema', { ...planOf({}), schema: undefined }, /schema: /],
    ['no linears', { ...planOf({}), linears: undefined }, /linears: /],
    ['a list of linears', { ...planOf({}), linears: ['blocks.0.ffn.up'] }, /linears: /],
    ['an unknown target', { ...planOf({}), target: 'abacus' }, /target: .*ort-cpu/],
    ['an unknown method', { ...planOf({}), method: 'entropy' }, /method: .*kl/],
    ['an unknown key', { ...planOf({}), keeps: [] }, /the file: .*keeps/],
    ['an unknown precision', up({ precision: 'int4' }), /linears\.blocks\.0\.ffn\.up\.precision: .*int8-weights/],
    ['no precision', up({}), /linears\.blocks\.0\.ffn\.up\.precision: /],
    ['a precision alone', up('int8'), /linears\.blocks\.0\.ffn\.up: /],
    ['an unknown key of a linear', up({ precision: 'int8', smoth: 0.5 }), /linears\.blocks\.0\.ffn\.up: .*smoth/],
    ['a strength beyond 1', up({ precision: 'int8', smooth: 1.5 }), /linears\.blocks\.0\.ffn\.up\.smooth: /],
    ['a strength that is a word', up({ precision: 'int8', smooth: 'much' }), /linears\.blocks\.0\.ffn\.up\.smooth: /],
    ['an end of a range that is text', up({ precision: 'int8', low: '-1' }), /linears\.blocks\.0\.ffn\.up\.low: /],
    ['an end of a range that is null', up({ precision: 'int8', high: null }), /linears\.blocks\.0\.ffn\.up\.high: /],
    ['a range the wrong way round', up({ precision: 'int8', low: 3, high: -3 }), /linears\.blocks\.0\.ffn\.up/],
    ['a range of 0 alone', up({ precision: 'int8', low: 0, high: 0 }), /linears\.blocks\.0\.ffn\.up: .*both 0/],
    ['an end past FP32', up({ precision: 'int8', high: 1e39 }), /linears\.blocks\.0\.ffn\.up\.high: .*end of FP32/],
    [
      'an end past FP32 below',
      up({ precision: 'int8', low: -1e39 }),
      /linears\.blocks\.0\.ffn\.up\.low: .*end of FP32/,
    ],
  ])('%s, and says where', async (_, json, says) => {
    const { code, message } = await refusalOf(JSON.stringify(json));
    expect(code).toBe('PLAN_INVALID');
    expect(message).toMatch(says);
  });

  it.each<[string, string, RegExp]>([
    ['a linear that stands twice', '{"linears": {"a": 1, "a": 2}}', /: it has the key "a" twice$/],
    ['a key of every object', '{"linears": {"__proto__": {}}}', /: it has a key __proto__$/],
    ['lists in one another', '['.repeat(100_000), /: it is nested more than \d+ deep$/],
    ['half a surrogate pair', '{"model": "\\ud800"}', /: a text holds half a surrogate pair$/],
  ])('%s, and says so', async (_, text, says) => {
    expect(await refusalOf(text)).toMatchObject({ code: 'PLAN_INVALID', message: expect.stringMatching(says) });
  });

  it('a name that is not UTF-8', async () => {
    const text = Buffer.from(JSON.stringify(planOf({ 'blocks.é': { precision: 'int8' } })), 'latin1');
    expect((await refusalOf(text)).message).toMatch(/not JSON$/);
  });

  it('a number that JSON has no room for', async () => {
    const text = JSON.stringify(up({ precision: 'int8', high: 0 })).replace('"high":0', '"high":1e999');
    expect((await refusalOf(text)).message).toMatch(/linears\.blocks\.0\.ffn\.up\.high: /);
  });

  it('control characters in names, which it does not print', async () => {
    const { message } = await refusalOf(JSON.stringify({ ...planOf({}), '\u001b[31m\nkey': 1 }));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is the point
    expect(message).not.toMatch(/[\u0000-\u001f]/);
  });

  it('a file that is not there, a folder, and one that is too large', async () => {
    const folder = await temporaryFolder();
    await expectRejection(readPlan(path.join(folder, 'none')), 'NOT_FOUND');
    await expectRejection(readPlan(folder), 'NOT_READABLE');
    const large = path.join(folder, 'large');
    await writeFile(large, new Uint8Array(MAX_PLAN_BYTES + 1).fill(0x20));
    await expectRejection(readPlan(large), 'NOT_READABLE');
  });
});

describe('quantize with a plan of another model', () => {
  it('is refused before anything is written', async () => {
    const folder = await temporaryFolder();
    const plan = path.join(folder, 'plan.json');
    await writePlan(plan, planOf({ 'blocks.0.ffn.up': { precision: 'int8-weights' } }, { model: 'another' }));
    const output = path.join(folder, 'out');
    const made = quantize({ ...OPTIONS, pipeline: MICRO_PIPELINE, plan, output, link: true });
    await expect(made).rejects.toMatchObject({
      code: 'PLAN_INVALID',
      message: expect.stringMatching(/plan\.json was made for another model than .*model\.onnx$/),
      hint: expect.stringContaining('"model" to null'),
    });
    await expect(access(output)).rejects.toThrow();
  });
});
