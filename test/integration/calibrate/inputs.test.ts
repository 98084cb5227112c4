import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type CalibrateOptions, calibrate } from '../../../src/calibrate/calibrate.js';
import { readCalibration } from '../../../src/calibrate/file.js';
import { loadModel } from '../../../src/onnx/load.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { encodePrompts, type PromptEmbeddings } from '../../../src/pipeline/text-encoder.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { copyTree } from '../../../src/util/files.js';
import { type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU } from '../support/graphs.js';

const PROMPTS = ['a small red circle moving left over a dark background', 'a large blue ring over sand'];
const folder = temporaryFolder();
const host = sharedHost();

function run(name: string, changes: Partial<CalibrateOptions>) {
  return calibrate({
    pipeline: MICRO_PIPELINE,
    negativePrompt: '',
    steps: 2,
    guidance: 5,
    seed: 3,
    output: path.join(folder, name),
    buckets: 4,
    tokens: 20,
    device: 'cpu',
    ...changes,
  });
}

const inFolder = (name: string): string => path.join(folder, name);

/** What a calibration holds, its header left out. */
async function statistics(name: string) {
  const { activations } = await readCalibration(inFolder(name));
  return activations.map((activation) => [
    activation.value,
    activation.slices().map(({ key, slice }) => [key, slice.channelMin, slice.channelMax, slice.histogram.toJSON()]),
  ]);
}

let encoded: PromptEmbeddings[];

function stack(items: readonly PromptEmbeddings[], rank: 2 | 3 = 3): SafeTensor {
  const { length, features } = items[0] as PromptEmbeddings;
  return {
    dtype: 'F32',
    shape: rank === 3 ? [items.length, length, features] : [length, features],
    data: Float32Array.from(items.flatMap(({ data }) => [...data])),
  };
}

function embeddingsFile(name: string, tensors: Record<string, SafeTensor>): Promise<string> {
  const file = inFolder(name);
  return writeSafetensors(file, { tensors: new Map(Object.entries(tensors)), metadata: {} }).then(() => file);
}

beforeAll(async () => {
  const pipeline = await PipelineFolder.open(MICRO_PIPELINE);
  const embeddings = await encodePrompts(pipeline, host, CPU, ['', ...PROMPTS]);
  encoded = ['', ...PROMPTS].map((prompt) => embeddings.get(prompt) as PromptEmbeddings);
});

describe('embeddings from a file', () => {
  it('give the statistics of the prompts they were made of', async () => {
    await run('prompts', { prompts: PROMPTS });
    for (const rank of [2, 3] as const) {
      const embeddings = await embeddingsFile(`embeddings-${rank}`, {
        prompt_embeds: stack(encoded.slice(1)),
        negative_prompt_embeds: stack(encoded.slice(0, 1), rank),
      });
      expect(await run(`embedded-${rank}`, { embeddings })).toMatchObject({ inputs: 'embeddings', forwards: 8 });
      expect(await statistics(`embedded-${rank}`)).toEqual(await statistics('prompts'));
    }
  });

  it.each<[string, () => Record<string, SafeTensor>, string]>([
    ['without negative ones where guidance needs them', () => ({ prompt_embeds: stack(encoded) }), 'negative_prompt'],
    [
      'of another width',
      () => ({ prompt_embeds: { dtype: 'F32', shape: [1, 2, 3], data: new Float32Array(6) } }),
      '64',
    ],
    ['of integers', () => ({ prompt_embeds: { dtype: 'I32', shape: [1, 1, 64], data: new Int32Array(64) } }), 'I32'],
    [
      'with NaN',
      () => ({ prompt_embeds: { dtype: 'F32', shape: [1, 1, 64], data: new Float32Array(64).fill(Number.NaN) } }),
      'NaN',
    ],
  ])('%s are refused', async (name, tensors, said) => {
    const embeddings = await embeddingsFile(`bad-${name.length}`, tensors());
    await expect(run('refused', { embeddings })).rejects.toMatchObject({
      code: 'EMBEDDINGS_INVALID',
      message: expect.stringContaining(said),
    });
  });
});

describe('synthetic inputs', () => {
  it('calibrate a folder with nothing but a transformer, and are stamped into all that comes of it', async () => {
    const pipeline = inFolder('transformer-only');
    await mkdir(pipeline);
    await copyTree(path.join(MICRO_PIPELINE, 'transformer'), path.join(pipeline, 'transformer'), false);
    const size = { frames: 5, height: 64, width: 64 };
    const summary = await run('synthetic', { pipeline, syntheticInputs: 2, ...size });
    expect(summary).toMatchObject({ inputs: 'synthetic', forwards: 8 });
    expect((await readCalibration(inFolder('synthetic'))).identity.inputs).toBe('synthetic');

    await run('again', { pipeline, syntheticInputs: 2, ...size });
    expect(readFileSync(inFolder('again')).equals(readFileSync(inFolder('synthetic')))).toBe(true);

    const { inputs } = await quantize({
      pipeline,
      calibration: inFolder('synthetic'),
      scheme: 'ffn',
      target: 'ort-cpu',
      method: 'kl',
      percentile: 99.999,
      keep: [],
      output: inFolder('quantized'),
      link: true,
    });
    expect(inputs).toBe('synthetic');
    const loaded = await loadModel(path.join(inFolder('quantized'), 'transformer', 'model.onnx'));
    expect(loaded.model.metadata.get('wanq.inputs')).toBe('synthetic');
    await loaded.close();
  });
});

it.each<[string, Partial<CalibrateOptions>]>([
  ['no source of text', {}],
  ['two sources of text', { prompts: PROMPTS, syntheticInputs: 1 }],
])('%s is a mistake of use', async (_, changes) => {
  await expect(run('none', changes)).rejects.toMatchObject({ code: 'USAGE' });
});
