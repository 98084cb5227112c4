import { cpSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { blockBoundaries } from '../../../src/analyze/boundaries.js';
import { findLinears } from '../../../src/analyze/linears.js';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { type ImportSummary, importCheckpoint } from '../../../src/import/import.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { Denoiser, runChain } from '../../../src/pipeline/denoise.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { readScheduler } from '../../../src/pipeline/schedulers/index.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import { encodePrompts, type PromptEmbeddings } from '../../../src/pipeline/text-encoder.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';

const WEIGHTS = path.join('transformer', 'diffusion_pytorch_model.safetensors');
const folder = temporaryFolder();
const host = sharedHost();
const checkpoint = path.join(folder, 'checkpoint');
const pipeline = path.join(folder, 'pipeline');
let summary: ImportSummary;

beforeAll(async () => {
  cpSync(path.join(MICRO, 'checkpoint'), checkpoint, { recursive: true });
  summary = await importCheckpoint({ checkpoint, output: pipeline, components: MICRO_PIPELINE });
});

const chain = {
  negativePrompt: '',
  steps: 2,
  guidance: 5,
  seed: 0,
  buckets: 2,
  tokens: 'auto',
  device: 'cpu',
} as const;
const recipe = {
  scheme: 'blocks',
  target: 'ort-cpu',
  method: 'minmax',
  percentile: 99.99,
  keep: [],
  link: true,
} as const;

describe('an imported pipeline', () => {
  it('lacks nothing once it has the components of another', () => {
    expect(summary).toMatchObject({ lacking: [], blocks: 6, tensors: 177, types: { float32: 177 } });
  });

  it('has a role for every linear, and blocks that can be cut apart', async () => {
    const { graph } = await loadGraph(path.join(pipeline, 'transformer', 'model.onnx'));
    const linears = findLinears(graph);
    expect(linears).toHaveLength(67);
    expect(linears.map(({ role }) => role)).not.toContain('linear');
    expect(new Set(linears.map(({ role }) => role)).size).toBe(67);
    expect(linears.map(({ weight }) => weight.name)).toContain('blocks.3.ffn.net.2.weight');
    const cuts = blockBoundaries(graph);
    expect(cuts).toHaveLength(7);
    // Hidden states, text, modulations, time, both parts of the rotation, and the grid's volume.
    for (const { crossing } of cuts) expect(crossing.length).toBeLessThanOrEqual(7);
  });

  it("follows diffusers' golden run at every step", async () => {
    const golden = await readSafetensors(path.join(MICRO, 'golden', 'trajectories.safetensors'));
    const [run] = JSON.parse(golden.metadata.cases as string) as [
      { prompt: string; negative_prompt: string; steps: number; guidance_scale: number },
    ];
    const opened = await PipelineFolder.open(pipeline);
    const embeddings = await encodePrompts(opened, host, { providers: ['cpu'] }, [run.prompt, run.negative_prompt]);
    const file = opened.modelPath('transformer');
    const session = await host.createSession({ path: file }, { providers: ['cpu'] });
    const signature = transformerSignature((await loadGraph(file)).graph, file);
    const denoiser = new Denoiser(session, { signature, patch: [2, 2] });
    const noise = golden.tensors.get('0.noise') as SafeTensor;
    const [channels, frames, height, width] = noise.shape as [number, number, number, number];
    const expected = golden.tensors.get('0.latents')?.data as Float32Array;
    const errors: number[] = [];
    await runChain({
      scheduler: (await readScheduler(opened))(run.steps),
      shape: { channels, frames, height, width },
      noise: noise.data as Float32Array,
      guidance: run.guidance_scale,
      text: {
        cond: embeddings.get(run.prompt) as PromptEmbeddings,
        uncond: embeddings.get(run.negative_prompt) as PromptEmbeddings,
      },
      predict: (calls) => Promise.all(calls.map(async ({ input }) => (await denoiser.predict(input)).velocity)),
      onStep: (step, latents) => {
        const size = latents.length;
        errors.push(relativeDeviation(latents, expected.subarray(step * size, (step + 1) * size)));
      },
    });
    expect(errors).toHaveLength(run.steps);
    expect(Math.max(...errors)).toBeLessThan(1e-4);
  });

  it('is calibrated and quantized as an exported one is', async () => {
    const calibration = path.join(folder, 'calibration.safetensors');
    const prompts = ['a small red circle moving left over a dark background'];
    await calibrate({ ...chain, pipeline, prompts, output: calibration });
    const quantized = await quantize({ ...recipe, pipeline, calibration, output: path.join(folder, 'int8') });
    expect(quantized.plan.rows.filter(({ decision }) => decision === 'int8')).toHaveLength(60);
    expect(quantized.verified.ran).toBe(true);
    expect(quantized.verified.sqnr).toBeGreaterThan(30);
  });
});

it('a BF16 checkpoint without a text encoder is calibrated on random embeddings and quantized', async () => {
  const { tensors, metadata } = await readSafetensors(path.join(checkpoint, WEIGHTS));
  const halved = new Map(
    [...tensors].map(([name, { shape, data }]): [string, SafeTensor] => {
      const bits = new Uint32Array((data as Float32Array).buffer).map((word) => word >>> 16);
      return [name, { dtype: 'BF16', shape, data: Uint16Array.from(bits) }];
    }),
  );
  const bf16 = path.join(folder, 'bf16');
  cpSync(path.join(checkpoint, 'transformer'), bf16, { recursive: true });
  await writeSafetensors(path.join(bf16, path.basename(WEIGHTS)), { tensors: halved, metadata });
  const output = path.join(folder, 'bf16-pipeline');
  const imported = await importCheckpoint({ checkpoint: bf16, output });
  expect(imported).toMatchObject({ types: { bfloat16: 177 }, lacking: expect.arrayContaining(['text_encoder']) });

  const calibration = path.join(folder, 'bf16.safetensors');
  await calibrate({
    ...chain,
    pipeline: output,
    syntheticInputs: 1,
    frames: 5,
    height: 64,
    width: 64,
    output: calibration,
  });
  const quantized = await quantize({
    ...recipe,
    pipeline: output,
    calibration,
    output: path.join(folder, 'bf16-int8'),
  });
  expect(quantized.plan.rows.filter(({ decision }) => decision === 'int8')).toHaveLength(60);
  expect(quantized.verified.sqnr).toBeGreaterThan(30);
});
