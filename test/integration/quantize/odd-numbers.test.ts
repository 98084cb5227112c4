import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeCalibration } from '../../../src/calibrate/file.js';
import { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { randn } from '../../../src/numerics/rng.js';
import { checkSaved } from '../../../src/onnx/check.js';
import type { WeightNote } from '../../../src/onnx/quantized-numbers.js';
import { saveModel } from '../../../src/onnx/save.js';
import { convertOpset } from '../../../src/passes/convert-opset.js';
import { runPasses } from '../../../src/passes/pass.js';
import { quantizeLinears } from '../../../src/passes/quantize-linears.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { smoothActivations } from '../../../src/passes/smooth-activations.js';
import { fitPlan } from '../../../src/quantize/fit/plan.js';
import { makePlan, type PlanOptions, type PlanRow } from '../../../src/quantize/plan.js';
import type { Target } from '../../../src/quantize/target.js';
import { float32Tensor } from '../../../src/runtime/tensor.js';
import { memory } from '../../helpers/source.js';
import { channelExtremes, floats } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, inMemory, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();
const folder = temporaryFolder();

const [TOKENS, IN, OUT] = [8, 16, 6];
const MAX = 3.4028234663852886e38;

const normal = (seed: number, count: number, factor = 1): Float32Array => randn(seed, count).map((x) => x * factor);
const x = normal(1, TOKENS * IN);
const w = normal(2, IN * OUT, 0.1);
const with_ = (values: Float32Array, at: number, what: number): Float32Array => values.with(at, what);
/** The weight with one output channel made of another. */
const channel = (of: (k: number) => number): Float32Array => w.map((each, i) => (i % OUT === 2 ? of(i) : each));

interface Case {
  readonly x?: Float32Array;
  readonly w?: Float32Array;
  readonly warns?: RegExp;
  readonly note?: Omit<WeightNote, 'tensor' | 'channels'>;
}

const CASES: Record<string, Case> = {
  'normal numbers': {},
  'an activation that is 0': { x: new Float32Array(TOKENS * IN), warns: /was 0 throughout/ },
  'a constant activation': { x: new Float32Array(TOKENS * IN).fill(3.1), warns: /was 3\.1 throughout/ },
  'a negative constant': { x: new Float32Array(TOKENS * IN).fill(-0.7), warns: /was -0\.7 throughout/ },
  'a tiny constant': { x: new Float32Array(TOKENS * IN).fill(2 ** -149), warns: /is tiny/ },
  'denormal activations': { x: normal(3, TOKENS * IN, 1e-41), warns: /is tiny/ },
  'an outlier among activations': { x: with_(x, 5, 1e8), warns: /15 of 16 channels .* are rounded to 0/ },
  // Past 1e33, sums times a scale leave FP32 before the other scale takes them back.
  'huge activations of both signs': { x: with_(with_(x, 0, 1e33), 20, -1e33), warns: /are rounded to 0/ },
  'a weight channel of zeros': { w: channel(() => 0), note: { zero: 1, single: 0 } },
  'a weight of zeros': { w: new Float32Array(IN * OUT), note: { zero: 6, single: 0 } },
  'a weight channel of denormals': { w: channel((i) => (i + 1) * 2 ** -149), note: { zero: 1, single: 0 } },
  'an outlier among weights': { w: with_(w, 2, 1e8), note: { zero: 0, single: 1 } },
  'a constant weight channel': { w: channel(() => -0.3) },
  'a huge weight': { w: with_(w, 8, -1e37), note: { zero: 0, single: 1 } },
};

const WAYS: readonly [Target, PlanOptions['activations']][] = [
  ['ort-cpu', 'static'],
  ['ort-cpu', 'dynamic'],
  ['tensorrt', 'static'],
  ['ort-cuda', 'static'],
  ['webgpu', undefined],
];

interface Written {
  readonly row: PlanRow;
  readonly notes: readonly WeightNote[];
  readonly file: string;
}

async function quantized(
  of: Case,
  target: Target,
  activations: PlanOptions['activations'],
  rest = {},
): Promise<Written> {
  const [seen, weight] = [of.x ?? x, of.w ?? w];
  const statistics = new ActivationStatistics('x', IN);
  const { min, max } = channelExtremes(seen, IN);
  for (let prompt = 0; prompt < 4; prompt++) {
    const places = Array.from({ length: 2 }, (_, position) => ({ position, at: (2 * prompt + position) / TOKENS }));
    statistics.add({ prompt, branch: 'cond', bucket: 0, places, heldOfPrompt: 2 }, min, max, seen);
  }
  const calibration = {
    ...{ activations: [statistics], outputs: [], provider: 'cpu', runtimeVersion: '', wanqVersion: '', shard: null },
    done: [0, 1, 2, 3],
    identity: {
      ...{ model: '', inputs: 'prompts' as const, prompts: '', promptCount: 4, seed: 0, steps: 1, guidance: 1 },
      ...{ scheduler: '', shape: [1, 1, 1, 1], buckets: 1, tokens: TOKENS, held: 8 },
    },
  };
  const at = await mkdtemp(path.join(folder, 'model-'));
  const file = path.join(at, 'calibration.safetensors');
  await writeCalibration(file, calibration);
  const model = plain(weight);
  const options: PlanOptions = {
    ...{ scheme: 'blocks', target, activations, method: 'minmax', percentile: 99.9, keep: [] },
    ...rest,
  };
  const bound = makePlan(model.graph, options, calibration);
  const fitted = await fitPlan(bound, options, { calibration, file, weights: memory });
  const changed = new Map();
  const writable = fitted.quantized.map(({ linear }) => linear);
  runPasses(model, [convertOpset(20), smoothActivations({ activations: fitted.smoothed, writable, changed })]);
  const final = fitted.quantized.map((each) => ({ ...each, linear: changed.get(each.linear.node) ?? each.linear }));
  runPasses(model, [quantizeLinears(final), removeUnused]);
  await saveModel(model, memory, at);
  const written = path.join(at, 'model.onnx');
  return { row: fitted.plan.rows[0] as PlanRow, notes: await checkSaved(written, plain(weight)), file: written };
}

const plain = (weight: Float32Array) =>
  modelOf({
    nodes: [node('MatMul', ['x', 'w'], 'y')],
    initializers: [Tensor.float32('w', [IN, OUT], weight)],
    inputs: [value('x', 'float32', [TOKENS, IN])],
    outputs: [value('y', 'float32', [TOKENS, OUT])],
  });

async function run(source: Parameters<typeof host.createSession>[0], input: Float32Array): Promise<Float32Array> {
  const session = await host.createSession(source, CPU);
  const { outputs } = await session.run({ x: float32Tensor(input, [TOKENS, IN]) }, ['y']);
  await session.release();
  return floats(outputs, 'y');
}

/** What rounding activations and weights to half a step may make of each output. */
function bounds(input: Float32Array, weight: Float32Array, step: (row: number) => number): Float64Array {
  const steps = Array.from({ length: OUT }, (_, o) => {
    const most = Math.max(...Array.from({ length: IN }, (__, k) => Math.abs(weight[k * OUT + o] as number)));
    return Math.max(most / 127, 2 ** -126);
  });
  return Float64Array.from({ length: TOKENS * OUT }, (_, i) => {
    const [row, o] = [Math.floor(i / OUT), i % OUT];
    let sum = 0;
    for (let k = 0; k < IN; k++) {
      const [a, b] = [Math.abs(input[row * IN + k] as number), Math.abs(weight[k * OUT + o] as number)];
      const [ea, eb] = [step(row) / 2, (steps[o] as number) / 2];
      sum += a * eb + b * ea + ea * eb + 1e-5 * a * b;
    }
    return sum + 2 ** -126;
  });
}

describe('activations up to the end of FP32', () => {
  it.each(WAYS.filter(([, activations]) => activations === 'static'))('have a scale for %s', async (target, way) => {
    const input = with_(with_(x, 0, MAX), 20, -MAX);
    const { row, file } = await quantized({ x: input }, target, way);
    expect(row.activation?.scale).toBeGreaterThan(MAX / 130);
    expect((await run({ path: file }, input)).every(Number.isFinite)).toBe(true);
  });
});

describe.each(WAYS)('%s, %s', (target, activations) => {
  it.each(Object.entries(CASES))('computes with %s what the float model does', async (_, each) => {
    const [input, weight] = [each.x ?? x, each.w ?? w];
    const { row, notes, file } = await quantized(each, target, activations);
    const [expected, made] = [await run(inMemory(plain(weight)), input), await run({ path: file }, input)];
    const steps = Array.from({ length: TOKENS }, (__, t) => {
      const token = input.subarray(t * IN, (t + 1) * IN);
      if (row.decision === 'int8-weights') return 0;
      return row.activation?.scale ?? Math.max(2 ** -126, Math.max(...token.map(Math.abs)) / 127);
    });
    const allowed = bounds(input, weight, (t) => steps[t] as number);
    const wrong = [...made].filter(
      (y, i) => !(Math.abs(y - (expected[i] as number)) <= (allowed[i] as number) * 1.001),
    );
    expect(wrong).toEqual([]);
    expect(notes.map(({ tensor: __, channels: ___, ...note }) => note)).toEqual(each.note ? [each.note] : []);
    const warned = row.activation && each.warns ? [expect.stringMatching(each.warns)] : [];
    expect(row.warnings).toEqual(warned.length > 0 ? expect.arrayContaining(warned) : []);
  });
});
