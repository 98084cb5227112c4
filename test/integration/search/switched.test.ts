import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import type { Node } from '../../../src/ir/graph.js';
import { subgraphs } from '../../../src/ir/traverse.js';
import { difference, sqnr } from '../../../src/numerics/stats.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { transformerFeeds, velocityOf } from '../../../src/pipeline/denoise.js';
import { describePipeline, type PipelineShape } from '../../../src/pipeline/open.js';
import type { Activations, Smoothing } from '../../../src/quantize/options.js';
import { writePlan } from '../../../src/quantize/plan-file.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { Target } from '../../../src/quantize/target.js';
import type { OptimizationLevel } from '../../../src/runtime/protocol.js';
import type { HostTensor } from '../../../src/runtime/tensor.js';
import { planWithout } from '../../../src/search/plan-of.js';
import { openSubject, type Subject } from '../../../src/search/subject.js';
import { SwitchedTransformer } from '../../../src/search/switched-transformer.js';
import { PROMPTS } from '../../helpers/cli.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU } from '../support/graphs.js';
import { type ForcedCall, recordCalls } from '../support/teacher-forced.js';

const folder = temporaryFolder();
const calibration = path.join(folder, 'calibration.safetensors');
const host = sharedHost();
const common = { pipeline: MICRO_PIPELINE, method: 'minmax', percentile: 99.999, keep: [] } as const;
/** Nothing else reads what it reads, so that it is quantized alone as it is beside others. */
const ALONE = 'blocks.5.ffn.down';
let calls: ForcedCall[];

beforeAll(async () => {
  const sampling = { negativePrompt: '', steps: 2, guidance: 5 } as const;
  await calibrate({
    ...{ ...sampling, pipeline: MICRO_PIPELINE, prompts: PROMPTS.slice(0, 1), seed: 0, output: calibration },
    ...{ buckets: 2, tokens: 'auto', device: 'cpu' },
  });
  calls = await recordCalls(host, MICRO_PIPELINE, PROMPTS.slice(1), sampling);
}, 120_000);

/** SQNR of two sets of predictions, pooled over the recorded calls, dB. */
async function between(
  expected: (call: ForcedCall) => Promise<Float32Array> | Float32Array,
  made: (call: ForcedCall) => Promise<Float32Array>,
): Promise<number> {
  let [signal, noise] = [0, 0];
  for (const call of calls) {
    const each = difference(await expected(call), await made(call));
    signal += each.signal;
    noise += each.noise;
  }
  return sqnr({ signal, noise, other: 0, product: 0 });
}

interface Case {
  readonly name: string;
  readonly target: Target;
  readonly activations?: Activations;
  readonly smooth: Smoothing;
  /** Whether the same operators run on the same numbers. Smoothing is folded in a written model, and INT8 pairs are shared or not. */
  readonly exact: boolean;
  /** Of the written model. onnxruntime's CPU provider quantizes the activations of weight-only products too, which no target for them does. */
  readonly optimization?: OptimizationLevel;
}

describe.each<Case>([
  { name: 'plain', target: 'ort-cpu', smooth: 'none', exact: true },
  { name: 'smoothed', target: 'ort-cpu', smooth: 0.5, exact: false },
  { name: 'tensorrt', target: 'tensorrt', smooth: 0.5, exact: false },
  { name: 'dynamic', target: 'ort-cpu', activations: 'dynamic', smooth: 'none', exact: true },
  { name: 'weights', target: 'webgpu', smooth: 'none', exact: true, optimization: 'disabled' },
])('the switched transformer, $name', ({ name, target, activations, smooth, exact, optimization = 'all' }) => {
  const options = { ...common, scheme: 'blocks', target, activations, smooth, calibration } as const;
  let subject: Subject;
  let shape: PipelineShape;
  let switched: SwitchedTransformer;
  let all: readonly number[];

  beforeAll(async () => {
    subject = await openSubject(options);
    shape = await describePipeline(subject.folder, {});
    all = [...subject.candidates.keys()];
    mkdirSync(path.join(folder, name));
    switched = await SwitchedTransformer.open(host, subject, shape, path.join(folder, name), CPU);
  });
  afterAll(() => subject.loaded.close());

  /** A written model in which nothing but `quantized` is. */
  async function written(
    quantized: readonly number[],
    output: string,
  ): Promise<(call: ForcedCall) => Promise<Float32Array>> {
    const plan = path.join(folder, `${output}.json`);
    const model = path.join(folder, output);
    await writePlan(plan, planWithout(subject, new Set(all.filter((i) => !quantized.includes(i)))));
    const summary = await quantize({ ...options, plan, output: model, link: true, verify: 'load' });
    const saved = quantized.reduce((sum, i) => sum + (subject.candidates[i]?.bytesSaved as number), 0);
    expect(summary.plan.bytesBefore - summary.plan.bytesAfter).toBe(saved);
    const file = path.join(model, 'transformer', 'model.onnx');
    const session = await host.createSession({ path: file }, { ...CPU, optimization });
    const { signature } = shape;
    return async ({ input }) => {
      const { outputs } = await session.run(transformerFeeds(shape, input), [signature.output]);
      return velocityOf(outputs[signature.output] as HostTensor, input.timestep);
    };
  }

  const on =
    (quantized: readonly number[]) =>
    ({ input }: ForcedCall): Promise<Float32Array> =>
      switched.predict(input, quantized);

  it('is the original where all switches are off, to the last bit but rounding', async () => {
    expect(await between(({ velocity }) => velocity, on([]))).toBeGreaterThan(120);
  });

  it('is the written model where all are on', async () => {
    const model = await written(all, `${name}-all`);
    if (exact) {
      expect(await between(model, on(all))).toBeGreaterThan(110);
      return;
    }
    // One code that is rounded the other way is as large as quantization's own steps, and moves all that come behind it.
    const reference = ({ velocity }: ForcedCall): Float32Array => velocity;
    const quantization = await between(reference, model);
    expect(await between(model, on(all))).toBeGreaterThan(quantization + 3);
    expect(Math.abs((await between(reference, on(all))) - quantization)).toBeLessThan(0.25);
  });

  it(`is the written model with ${ALONE} alone`, async () => {
    const one = subject.candidates.findIndex((candidate) => candidate.key === ALONE);
    const model = await written([one], `${name}-one`);
    const quantization = await between(({ velocity }) => velocity, model);
    expect(quantization).toBeLessThan(90);
    expect(await between(model, on([one]))).toBeGreaterThan(exact ? 110 : quantization + 15);
  });
});

it('lets onnxruntime make the same integer kernel of every quantized branch, and leaves the others as they were', async () => {
  const optimizedModelPath = path.join(folder, 'optimized.onnx');
  const model = path.join(folder, 'smoothed', 'model.onnx');
  await (await host.createSession({ path: model }, { ...CPU, optimizedModelPath })).release();
  const { graph } = await loadGraph(optimizedModelPath);
  const choices = graph.nodes.filter(({ opType }) => opType === 'If');
  expect(choices).toHaveLength(60);
  const products = choices.map((choice) => subgraphs(choice).map(({ nodes }) => (nodes.at(-1) as Node).opType));
  // onnxruntime turns conditions round where it likes.
  expect(products.map((pair) => pair.toSorted())).toEqual(new Array(60).fill(['MatMul', 'MatMulIntegerToFloat']));
});
