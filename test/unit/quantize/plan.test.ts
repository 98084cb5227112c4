import { describe, expect, it } from 'vitest';
import { findLinears, type Linear } from '../../../src/analyze/linears.js';
import type { Calibration } from '../../../src/calibrate/file.js';
import { ActivationStatistics, OutputStatistics } from '../../../src/calibrate/statistics.js';
import { int } from '../../../src/ir/attribute.js';
import { DataType, type DataTypeName } from '../../../src/ir/dtype.js';
import type { Graph } from '../../../src/ir/graph.js';
import { Tensor, type TensorSource } from '../../../src/ir/tensor.js';
import { type ActivationScale, activationScale } from '../../../src/numerics/int8.js';
import type { QuantizedLinear, ScaleType } from '../../../src/passes/quantize-linears.js';
import { type FittedPlan, fitPlan } from '../../../src/quantize/fit/plan.js';
import { makePlan, NOT_QUANTIZABLE, type PlanOptions } from '../../../src/quantize/plan.js';
import { planToFile } from '../../../src/quantize/plan-file.js';
import { decide } from '../../../src/quantize/scheme.js';
import type { Target } from '../../../src/quantize/target.js';
import { expectRefusal } from '../helpers/errors.js';
import { graph, node } from '../helpers/graphs.js';

/** Weight names with the value each is multiplied by. */
const LINEARS: [weight: string, activation: string][] = [
  ['time_embedding.0', 'timestep'],
  ['text_embedding.0', 'text'],
  ['time_projection.1', 'time'],
  ['blocks.0.self_attn.q', 'h'],
  ['blocks.0.self_attn.k', 'h'],
  ['blocks.0.cross_attn.v', 'c'],
  ['blocks.0.ffn.0', 'f'],
  ['blocks.0.ffn.2', 'g'],
  ['blocks.1.ffn.0', 'f1'],
  ['head.head', 'last'],
];
const ACTIVATIONS = [...new Set(LINEARS.map(([, activation]) => activation))];

const transformer = graph({
  nodes: [
    node('Conv', ['video', 'patch_embedding.weight'], 'patches'),
    ...LINEARS.map(([name, activation]) => node('MatMul', [activation, `${name}.weight`], `${name}.out`)),
  ],
  initializers: [
    Tensor.float32('patch_embedding.weight', [4, 2, 1, 2], new Float32Array(16)),
    ...LINEARS.map(([name]) => Tensor.float32(`${name}.weight`, [3, 4], new Float32Array(12))),
  ],
  inputs: ['video', ...ACTIVATIONS],
});

function calibration(samples: Record<string, number[]> = {}, channels = 3): Calibration {
  const activations = ACTIVATIONS.map((value) => {
    const statistics = new ActivationStatistics(value, channels);
    const seen = samples[value] ?? [-1, 3];
    const token = (x: number): Float32Array => new Float32Array(channels).fill(x);
    const add = (branch: 'cond' | 'uncond', bucket: number, x: number): void =>
      statistics.slice(branch, bucket).add(token(x), token(x), token(x));
    add('cond', 0, seen[0] as number);
    for (const x of seen) add('uncond', 1, x);
    return statistics;
  });
  // Plans look at nothing but the statistics.
  return { activations, outputs: [] } as unknown as Calibration;
}

const options: PlanOptions = { scheme: 'ffn', target: 'tensorrt', method: 'minmax', percentile: 99.9, keep: [] };
const plan = (
  changes: Partial<PlanOptions> = {},
  of: Calibration | undefined = calibration(),
  on: Graph = transformer,
) => makePlan(on, { ...options, ...changes }, of);
/** The same with ranges, which need neither weights nor kept tokens here. */
const fitted = (
  changes: Partial<PlanOptions> = {},
  of: Calibration = calibration(),
  on: Graph = transformer,
): Promise<FittedPlan> => {
  const bound = plan(changes, of, on);
  return fitPlan(bound, { ...options, ...changes }, { calibration: of, file: '', weights: unread });
};
const unread: TensorSource = {
  read: () => Promise.reject(new Error('weights are not read')),
  readInto: () => Promise.reject(new Error('weights are not read')),
};
const int8 = (made: ReturnType<typeof plan>): string[] =>
  made.plan.rows.filter(({ decision }) => decision === 'int8').map(({ role }) => role);

/** The static scale of a linear's input. */
const scaleOf = (linear: QuantizedLinear | undefined): ActivationScale | undefined =>
  linear && 'activation' in linear ? linear.activation : undefined;

const FFN = ['blocks.0.ffn.up', 'blocks.0.ffn.down', 'blocks.1.ffn.up'];
const BLOCKS = ['blocks.0.attn1.q', 'blocks.0.attn1.k', 'blocks.0.attn2.v', ...FFN];

describe('decide', () => {
  const quantized = (scheme: 'ffn' | 'blocks', on: Graph): string[] =>
    findLinears(on)
      .filter((linear) => decide(scheme, linear).quantize)
      .map(({ role }) => role);

  it('takes feed-forward linears, or all of the blocks, and never the embeddings', () => {
    expect(quantized('ffn', transformer)).toEqual(FFN);
    expect(quantized('blocks', transformer)).toEqual(BLOCKS);
  });

  it('takes every linear of a graph that is no known transformer, but no convolution', () => {
    const other = graph({
      nodes: [node('MatMul', ['x', 'w'], 'a'), node('Conv', ['x', 'kernel'], 'b')],
      initializers: [Tensor.float32('w', [1, 1], [1]), Tensor.float32('kernel', [1, 1, 1], [1])],
    });
    expect(quantized('ffn', other)).toEqual(['linear']);
    const [unknown] = findLinears(other) as [Linear];
    expect(decide('blocks', unknown, true).quantize).toBe(false);
  });

  it.each([
    ['patch_embedding', 'patch embedding'],
    ['time_embedder.1', 'timestep embedding'],
    ['time_proj', 'timestep embedding'],
    ['text_embedder.1', 'condition embedder'],
    ['proj_out', 'output projection'],
    ['blocks.0.attn1.q', 'attention keeps its precision'],
    ['blocks.0.ffn.up', 'feed-forward'],
  ])('says of %s why', (role, reason) => {
    const linear = findLinears(transformer).find((each) => each.role === role) as Linear;
    expect(decide('ffn', linear).reason).toContain(reason);
  });
});

describe('makePlan', () => {
  it('has a row for every linear and binds those it quantizes', async () => {
    const bound = plan({ scheme: 'blocks' });
    expect(int8(bound)).toEqual(BLOCKS);
    const made = await fitted({ scheme: 'blocks' });
    expect(made.plan.rows).toHaveLength(LINEARS.length + 1);
    expect(made.quantized.map(({ linear }) => linear.role)).toEqual(BLOCKS);
    for (const row of made.plan.rows) expect(row.activation !== null).toBe(row.decision === 'int8');
  });

  it('keeps what globs name', () => {
    const made = plan({ keep: ['blocks.0.ffn.*'] });
    expect(int8(made)).toEqual(['blocks.1.ffn.up']);
    expect(made.plan.rows.find(({ role }) => role === 'blocks.0.ffn.up')?.reason).toContain('--keep');
    expectRefusal(() => plan({ keep: ['blocks.7.*'] }), 'PATTERN_UNMATCHED');
  });

  it('takes ranges over all branches and buckets', async () => {
    const made = await fitted({}, calibration({ f: [-2, 5, 127, 1] }));
    const activation = scaleOf(made.quantized[0]);
    expect(activation).toMatchObject({ value: 'f', min: -2, max: 127, low: -2, high: 127, method: 'minmax' });
    expect(activation).toMatchObject({ dtype: 'int8', scale: 1, zeroPoint: 0, clippedShare: 0 });
  });

  it('quantizes to uint8 for onnxruntime on a CPU', async () => {
    const made = await fitted({ target: 'ort-cpu' }, calibration({ f: [-51, 204] }));
    expect(scaleOf(made.quantized[0])).toMatchObject({ dtype: 'uint8', scale: 1, zeroPoint: 51 });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('keeps a linear whose input was %d once', (broken) => {
    const made = plan({}, calibration({ f: [1, broken, 2] }));
    expect(int8(made)).toEqual(FFN.slice(1));
    expect(made.plan.rows.find(({ role }) => role === 'blocks.0.ffn.up')).toMatchObject({
      decision: 'keep',
      reason: expect.stringContaining('NaN or infinity'),
      activation: null,
    });
  });

  it('prescribes no range in its file for an input that was always 0', async () => {
    const { plan: made } = await fitted({}, calibration({ f: [0, 0] }));
    const row = made.rows.find(({ role }) => role === 'blocks.0.ffn.up');
    expect(row).toMatchObject({
      activation: { low: 0, high: 0, scale: 1 },
      warnings: [expect.stringContaining('was 0')],
    });
    const { linears } = planToFile(made);
    expect(linears['blocks.0.ffn.up']).not.toHaveProperty('low');
    expect(linears['blocks.0.ffn.down']).toMatchObject({ low: -1, high: 3 });
  });

  it('refuses a calibration of other channels', () => {
    expectRefusal(() => plan({}, calibration({}, 4)), 'CALIBRATION_MISMATCH');
  });

  it('keeps a linear whose input was sampled as NaN, whatever its range', () => {
    const seen = calibration();
    const of = seen.activations.find(({ value }) => value === 'f') as ActivationStatistics;
    of.slice('cond', 0).histogram.add([Number.NaN]);
    expect(int8(plan({}, seen))).toEqual(FFN.slice(1));
  });

  const half = Tensor.fromBytes('half', 'float16', [1, 1], new Uint8Array(2));
  const casting = (to: number): Graph =>
    graph({
      nodes: [
        node('Cast', ['half'], 'cast', [int('to', to)]),
        node('MatMul', ['h', 'cast'], 'a'),
        node('MatMul', ['f', 'w'], 'b'),
      ],
      initializers: [half, Tensor.float32('w', [1, 1], [1])],
    });

  it.each<[string, number]>([
    ['float64', DataType.float64],
    ['int32', DataType.int32],
    ['an unknown type', 999],
  ])('keeps a linear that computes in %s', (name, to) => {
    const { plan: kept, planned } = plan({}, calibration({}, 1), casting(to));
    expect(kept.rows.map(({ decision }) => decision)).toEqual(['keep', 'int8']);
    expect(kept.rows[0]?.reason).toBe(`${NOT_QUANTIZABLE} ${name}`);
    expect(planned.map(({ linear }) => linear.output)).toEqual(['b']);
  });

  it.each<[Target, DataTypeName, ScaleType]>([
    ['tensorrt', 'float32', 'float32'],
    ['tensorrt', 'float16', 'float16'],
    ['tensorrt', 'bfloat16', 'float32'],
    ['ort-cpu', 'float32', 'float32'],
    ['ort-cpu', 'float16', 'float32'],
    ['ort-cpu', 'bfloat16', 'float32'],
  ])('has for %s scales around a product in %s that are %s', async (target, computeType, scaleType) => {
    const seen = calibration({ h: [-100, 300] }, 1);
    const { plan: made, quantized } = await fitted({ target }, seen, casting(DataType[computeType]));
    expect(made.rows.map(({ decision }) => decision)).toEqual(['int8', 'int8']);
    expect(quantized.map((each) => each.scaleType)).toEqual([scaleType, 'float32']);
    const bytes = 1 + 1 + (scaleType === 'float16' ? 2 : 4);
    expect(made.rows[0]).toMatchObject({ bytesBefore: 2, bytesAfter: bytes });
    const dtype = target === 'tensorrt' ? 'int8' : 'uint8';
    expect(scaleOf(quantized[0])).toMatchObject(activationScale(dtype, -100, 300, scaleType));
  });

  it('plans an input twice that products of two types read', async () => {
    const made = graph({
      nodes: [
        node('MatMul', ['h', 'half'], 'a'),
        node('Cast', ['half'], 'cast', [int('to', DataType.float32)]),
        node('MatMul', ['h', 'cast'], 'b'),
      ],
      initializers: [half],
    });
    const { quantized } = await fitted({}, calibration({ h: [-1 / 3, 1] }, 1), made);
    expect(quantized.map((each) => scaleOf(each)?.scale)).toEqual([
      activationScale('int8', -1 / 3, 1, 'float16').scale,
      activationScale('int8', -1 / 3, 1, 'float32').scale,
    ]);
    expect(scaleOf(quantized[0])?.scale).not.toBe(scaleOf(quantized[1])?.scale);
  });

  it('computes the rest in FP16 for tensorrt, and stores it so for ort-cpu', () => {
    const roles = (linears: readonly Linear[]): string[] => linears.map(({ role }) => role);
    const rest = findLinears(transformer).filter(
      ({ role }) => !FFN.includes(role) && !role.startsWith('time_embedder'),
    );
    const computing = plan({ float: 'fp16' });
    expect(roles(computing.computed)).toEqual(roles(rest));
    expect(computing.halved.size).toBe(0);
    expect(computing.planned.map(({ scaleType }) => scaleType)).toEqual(FFN.map(() => 'float16'));
    const storing = plan({ float: 'fp16', target: 'ort-cpu' });
    expect(storing.computed).toEqual([]);
    expect([...storing.halved]).toEqual(rest.map(({ weight }) => weight.name));
    expect(storing.planned.map(({ scaleType }) => scaleType)).toEqual(FFN.map(() => 'float32'));
  });

  it('leaves in FP32, and lists, what was seen too large for FP16', () => {
    const seen: Calibration = {
      ...calibration({ g: [0, -17_000] }),
      outputs: [
        new OutputStatistics('blocks.0.self_attn.q.out', 16_000),
        new OutputStatistics('blocks.0.self_attn.k.out', 17_000),
        new OutputStatistics('blocks.1.ffn.0.out', Number.POSITIVE_INFINITY),
      ],
    };
    const { plan: made, planned, computed } = plan({ float: 'fp16' }, seen);
    expect(made.overflow).toEqual([
      { role: 'blocks.0.attn1.k', value: 'blocks.0.self_attn.k.out', magnitude: 17_000 },
      { role: 'blocks.0.ffn.down', value: 'g', magnitude: 17_000 },
      { role: 'blocks.1.ffn.up', value: 'blocks.1.ffn.0.out', magnitude: Number.POSITIVE_INFINITY },
    ]);
    expect(made.rows.find(({ role }) => role === 'blocks.0.attn1.k')?.decision).toBe('keep');
    expect(computed.map(({ role }) => role)).not.toContain('blocks.0.attn1.k');
    expect(planned.map(({ scaleType }) => scaleType)).toEqual(['float16', 'float32', 'float32']);
    expect(plan({}, seen).plan.overflow).toEqual([]);
    expect(plan({ float: 'fp16', target: 'ort-cpu' }, seen).plan.overflow).toEqual([]);
  });

  it('counts what is left over, by operator and reason', () => {
    const made = graph({
      nodes: [
        node('MatMul', ['h', 'w'], 'a'),
        node('Einsum', ['h', 'table'], 'b'),
        node('Einsum', ['c', 'table'], 'd'),
        node('MatMul', ['table', 'h'], 'e'),
      ],
      initializers: [Tensor.float32('w', [1, 1], [1]), Tensor.float32('table', [64, 64], new Float32Array(4096))],
    });
    const why = 'wanq does not know this form';
    expect(plan({}, calibration({}, 1), made).plan.leftovers).toEqual([
      { operator: 'Einsum', why, count: 2 },
      { operator: 'MatMul', why, count: 1 },
    ]);
    expect(plan().plan.leftovers).toEqual([]);
  });

  it('counts bytes: INT8 values, and a float32 scale and a zero point for each output', () => {
    const made = plan({ keep: ['blocks.1.ffn.up'] });
    const total = 4 * (16 + 12 * LINEARS.length);
    expect(made.plan.bytesBefore).toBe(total);
    expect(made.plan.bytesAfter).toBe(total - 2 * 48 + 2 * (12 + 4 * 5));
    const row = made.plan.rows.find(({ role }) => role === 'blocks.0.ffn.up');
    expect(row).toMatchObject({ weightShape: [3, 4], bytesBefore: 48, bytesAfter: 32 });
  });

  it('can be made without a calibration, then without scales', () => {
    const made = makePlan(transformer, options, undefined);
    expect(int8(made)).toEqual(FFN);
    expect(made.plan.rows.every(({ activation }) => activation === null)).toBe(true);
    expect(made.planned.map(({ linear }) => linear.role)).toEqual(FFN);
  });

  it('refuses a calibration that did not see an activation', () => {
    const { activations } = calibration();
    const partial = {
      activations: activations.filter(({ value }) => value !== 'g'),
      outputs: [],
    } as unknown as Calibration;
    expectRefusal(() => plan({}, partial), 'CALIBRATION_MISMATCH');
  });

  it('refuses where nothing is left to quantize', () => {
    expectRefusal(() => plan({ keep: ['*'] }), 'MODEL_UNSUPPORTED');
    expectRefusal(() => plan({}, calibration(), graph({ nodes: [node('Relu', ['x'], 'y')] })), 'MODEL_UNSUPPORTED');
  });
});
