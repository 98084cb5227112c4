import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type CalibrateOptions, calibrate } from '../../../src/calibrate/calibrate.js';
import { checkpointPath } from '../../../src/calibrate/checkpoint.js';
import { type Calibration, readCalibration } from '../../../src/calibrate/file.js';
import type { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { type Branch, runChain, transformerFeeds } from '../../../src/pipeline/denoise.js';
import { latentElements } from '../../../src/pipeline/geometry.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { readScheduler } from '../../../src/pipeline/schedulers/index.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import { encodePrompts, type PromptEmbeddings } from '../../../src/pipeline/text-encoder.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { channelExtremes, floats } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, inMemory } from '../support/graphs.js';

const PROMPTS = [
  'a small red circle moving left over a dark background',
  'a large blue ring bouncing over a sand background',
];
const SEED = 3;
const BUCKETS = 4;
const folder = temporaryFolder();

function run(name: string, changes: Partial<CalibrateOptions> = {}) {
  return calibrate({
    pipeline: MICRO_PIPELINE,
    prompts: PROMPTS,
    negativePrompt: '',
    steps: 2,
    guidance: 5,
    seed: SEED,
    output: path.join(folder, name),
    buckets: BUCKETS,
    tokens: 20,
    device: 'cpu',
    ...changes,
  });
}

const bytes = (name: string): Buffer => readFileSync(path.join(folder, name));
const read = (name: string): Promise<Calibration> => readCalibration(path.join(folder, name));

function contents(activations: readonly ActivationStatistics[]) {
  return activations.map((activation) => ({
    value: activation.value,
    slices: activation.slices().map(({ key, slice: { channelMin, channelMax, histogram } }) => ({
      key,
      channelMin,
      channelMax,
      histogram: histogram.toJSON(),
    })),
  }));
}

beforeAll(async () => {
  await run('sampled');
  await run('all', { tokens: 'all' });
  await run('first', { prompts: PROMPTS.slice(0, 1), tokens: 'all' });
});

describe('the calibration file', () => {
  it('has the same bytes when the run is repeated', async () => {
    const summary = await run('repeated');
    expect(summary).toMatchObject({ activations: 43, forwards: 8, resumed: 0, tokens: 20, nonFinite: [] });
    expect(bytes('repeated').equals(bytes('sampled'))).toBe(true);
  });

  it('has the same bytes when the run is interrupted and resumed', async () => {
    const output = path.join(folder, 'resumed');
    const controller = new AbortController();
    const interrupted = run('resumed', {
      signal: controller.signal,
      onProgress: ({ prompt }) => prompt === 2 && controller.abort(new Error('interrupted')),
    });
    await expect(interrupted).rejects.toThrow('interrupted');
    expect(existsSync(output)).toBe(false);
    expect(existsSync(checkpointPath(output))).toBe(true);
    await expect(run('resumed', { steps: 3 })).rejects.toMatchObject({ code: 'CALIBRATION_MISMATCH' });
    expect(await run('resumed')).toMatchObject({ resumed: 1, forwards: 4 });
    expect(existsSync(checkpointPath(output))).toBe(false);
    expect(bytes('resumed').equals(bytes('sampled'))).toBe(true);
  });

  it('is never overwritten', async () => {
    await expect(run('all')).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
  });
});

describe('sampling', () => {
  it('of as many tokens as there are takes all of them', async () => {
    await run('eighty', { prompts: PROMPTS.slice(0, 1), tokens: 80 });
    expect(contents((await read('eighty')).activations)).toEqual(contents((await read('first')).activations));
  });

  it('of fewer tokens leaves the ranges exact', async () => {
    const [sampled, all] = [await read('sampled'), await read('all')];
    all.activations.forEach((whole, i) => {
      const part = sampled.activations[i]?.total();
      expect(part?.channelMin).toEqual(whole.total().channelMin);
      expect(part?.channelMax).toEqual(whole.total().channelMax);
    });
    const samples = (calibration: Calibration): number =>
      Math.max(...calibration.activations.map((activation) => activation.total().histogram.total));
    const forwards = 2 * 2 * PROMPTS.length;
    const widest = 576;
    expect(samples(all)).toBe(forwards * 80 * widest);
    expect(samples(sampled)).toBe(forwards * 20 * widest);
  });
});

it('of two prompts is the sum of what each gives alone', async () => {
  await run('second', { prompts: PROMPTS.slice(1), seed: SEED + 1, tokens: 'all' });
  const [first, second, both] = [await read('first'), await read('second'), await read('all')];
  second.activations.forEach((activation, i) => {
    for (const { key, slice } of activation.slices()) {
      const [branch, bucket] = key.split('/') as [Branch, string];
      first.activations[i]?.slice(branch, Number(bucket)).merge(slice);
    }
  });
  expect(contents(first.activations)).toEqual(contents(both.activations));
});

describe('the range of every activation', () => {
  const host = sharedHost();

  it('is the extreme over all forwards of the chain', async () => {
    const pipeline = await PipelineFolder.open(MICRO_PIPELINE);
    const calibration = await read('sampled');
    const loaded = await loadModel(pipeline.modelPath('transformer'));
    await loaded.close();
    const { graph } = loaded.model;
    const signature = transformerSignature(graph, loaded.path);
    const inputs = new Set(graph.inputs.map(({ name }) => name));
    const inner = calibration.activations.filter(({ value }) => !inputs.has(value));
    for (const { value: name } of inner) graph.outputs.push({ name, dtype: 'float32', dims: null });
    const session = await host.createSession(inMemory(loaded.model), { ...CPU, prepack: false });
    const face = { signature, patch: [2, 2] as const };
    const embeddings = await encodePrompts(pipeline, host, CPU, [...PROMPTS, '']);
    const makeScheduler = await readScheduler(pipeline);
    const [channels, frames, height, width] = calibration.identity.shape as [number, number, number, number];
    const shape = { channels, frames, height, width };

    const extremes = new Map<string, { min: Float32Array; max: Float32Array }>();
    for (const [i, prompt] of PROMPTS.entries()) {
      await runChain({
        scheduler: makeScheduler(2),
        shape,
        noise: randn(SEED + i, latentElements(shape)),
        guidance: 5,
        text: {
          cond: embeddings.get(prompt) as PromptEmbeddings,
          uncond: embeddings.get('') as PromptEmbeddings,
        },
        predict: (calls) =>
          Promise.all(
            calls.map(async ({ branch, input }) => {
              const names = inner.map(({ value }) => value);
              const { outputs } = await session.run(transformerFeeds(face, input), [signature.output, ...names]);
              const bucket = Math.min(BUCKETS - 1, Math.floor((input.timestep / 1000) * BUCKETS));
              for (const { value, channels: width } of inner) {
                const now = channelExtremes(floats(outputs, value), width);
                const key = `${value} ${branch}/${bucket}`;
                const before = extremes.get(key) ?? now;
                extremes.set(key, {
                  min: now.min.map((x, c) => Math.min(x, before.min[c] as number)),
                  max: now.max.map((x, c) => Math.max(x, before.max[c] as number)),
                });
              }
              return floats(outputs, signature.output);
            }),
          ),
      });
    }

    expect(inner.length).toBeGreaterThan(40);
    for (const activation of inner) {
      for (const { key, slice } of activation.slices()) {
        const { min, max } = extremes.get(`${activation.value} ${key}`) ?? {};
        expect(slice.channelMin).toEqual(min);
        expect(slice.channelMax).toEqual(max);
      }
    }
    expect(extremes.size).toBe(inner.flatMap((activation) => activation.slices()).length);
  });
});
