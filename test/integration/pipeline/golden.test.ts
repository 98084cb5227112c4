import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { psnr } from '../../../src/evaluate/metrics/psnr.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { Denoiser, runChain } from '../../../src/pipeline/denoise.js';
import type { LatentShape } from '../../../src/pipeline/geometry.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { readScheduler, schedulerFrom } from '../../../src/pipeline/schedulers/index.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import { encodePrompts, type PromptEmbeddings } from '../../../src/pipeline/text-encoder.js';
import { PromptTokenizer } from '../../../src/pipeline/tokenizer.js';
import { VaeDecoder } from '../../../src/pipeline/vae.js';
import { RuntimeHost } from '../../../src/runtime/host.js';
import { readSafetensors, type Safetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';

interface Case {
  scheduler: 'unipc' | 'euler';
  steps: number;
  guidance_scale: number;
  prompt: string;
  negative_prompt: string;
  timesteps: number[];
  sigmas: number[];
}

/** Seeds the golden runs of diffusers were made with. */
const SEEDS = [40, 41, 42, 43];
const CPU = { providers: ['cpu'] };

let golden: Safetensors;
let cases: Case[];
let folder: PipelineFolder;
let host: RuntimeHost;
let denoiser: Denoiser;
let embeddings: Map<string, PromptEmbeddings>;

beforeAll(async () => {
  golden = await readSafetensors(path.join(MICRO, 'golden', 'trajectories.safetensors'));
  cases = JSON.parse(golden.metadata.cases as string);
  folder = await PipelineFolder.open(MICRO_PIPELINE);
  host = new RuntimeHost();
  const file = folder.modelPath('transformer');
  const loaded = await loadModel(file);
  const session = await host.createSession({ path: file }, CPU);
  denoiser = new Denoiser(session, { signature: transformerSignature(loaded.model.graph, file), patch: [2, 2] });
  const prompts = cases.flatMap(({ prompt, negative_prompt }) => [prompt, negative_prompt]);
  embeddings = await encodePrompts(folder, host, CPU, prompts);
});

afterAll(() => host.close());

const tensor = (index: number, name: string) => {
  const found = golden.tensors.get(`${index}.${name}`);
  if (!found) throw new Error(`no ${index}.${name} in the golden file`);
  return { shape: found.shape, data: found.data as Float32Array };
};

function relativeError(actual: Float32Array, expected: Float32Array): number {
  let error = 0;
  let norm = 0;
  expected.forEach((e, i) => {
    error += ((actual[i] as number) - e) ** 2;
    norm += e ** 2;
  });
  return Math.sqrt(error / norm);
}

describe.each([0, 1, 2, 3])("diffusers' golden run %i", (index) => {
  it('has the token ids', async () => {
    const tokenizer = await PromptTokenizer.open(folder, 32);
    const ids = golden.tensors.get(`${index}.input_ids`)?.data as BigInt64Array;
    expect(tokenizer.encode((cases[index] as Case).prompt).ids).toEqual([...ids].map(Number));
  });

  it('has the prompt embeddings', () => {
    const { data } = embeddings.get((cases[index] as Case).prompt) as PromptEmbeddings;
    expect(relativeError(data, tensor(index, 'prompt_embeds').data)).toBeLessThan(1e-5);
  });

  it('has the noise of its torch seed', () => {
    const { data } = tensor(index, 'noise');
    expect(relativeError(randn(SEEDS[index] as number, data.length), data)).toBeLessThan(1e-6);
  });

  it('is followed at every step within 1e-4, and to the decoded frames within 55 dB', async () => {
    const c = cases[index] as Case;
    const makeScheduler =
      c.scheduler === 'unipc'
        ? await readScheduler(folder)
        : schedulerFrom({ _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 5 }, 'test');
    const scheduler = makeScheduler(c.steps);
    expect(scheduler.timesteps).toEqual(c.timesteps);
    for (const [i, sigma] of scheduler.sigmas.entries()) expect(sigma).toBeCloseTo(c.sigmas[i] as number, 6);

    const noise = tensor(index, 'noise');
    const [channels, frames, height, width] = noise.shape as [number, number, number, number];
    const shape: LatentShape = { channels, frames, height, width };
    const expected = tensor(index, 'latents').data;
    const errors: number[] = [];
    const finished = await runChain({
      scheduler,
      shape,
      noise: noise.data,
      guidance: c.guidance_scale,
      text: {
        cond: embeddings.get(c.prompt) as PromptEmbeddings,
        uncond: embeddings.get(c.negative_prompt) as PromptEmbeddings,
      },
      predict: (calls) => Promise.all(calls.map(async ({ input }) => (await denoiser.predict(input)).velocity)),
      onStep: (step, latents) => {
        const size = latents.length;
        errors.push(relativeError(latents, expected.subarray(step * size, (step + 1) * size)));
      },
    });
    expect(errors).toHaveLength(c.steps);
    expect(Math.max(...errors)).toBeLessThan(1e-4);

    // The fixture's decoder was exported for 5 x 8 x 8 latents; run 3 has another size.
    if (frames !== 5) return;
    const decoder = await VaeDecoder.open(folder, host, CPU);
    const video = await decoder.decode(finished, shape);
    const reference = golden.tensors.get(`${index}.video`)?.data as Uint8Array;
    expect(psnr(reference, video.data)).toBeGreaterThan(55);
  });
});
