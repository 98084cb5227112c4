import { describe, expect, it } from 'vitest';
import {
  type ComponentDrift,
  driftMetrics,
  driftSection,
  embeddingErrors,
  isChanged,
} from '../../../src/evaluate/components.js';
import type { StepError } from '../../../src/evaluate/runs.js';
import { difference } from '../../../src/numerics/stats.js';
import { expectRejection } from '../helpers/errors.js';

/** Noise of these powers on a signal of power 1: 10 dB for 0.1, 20 dB for 0.01. */
const errors = (...noises: number[]): StepError[] => [
  {
    step: 0,
    timestep: 999,
    branch: 'cond',
    errors: noises.map((noise) => ({ signal: 1, noise, other: 1, product: 1 })),
  },
];

const video = { prompt: 'a', seed: 1, transformerPsnr: 50, vaePsnr: null, pipelinePsnr: 40, pipelineSsim: 0.9 };

const drift = (changes: Partial<ComponentDrift>): ComponentDrift => ({
  changed: [],
  embeddings: [],
  encoderErrors: undefined,
  pipelineErrors: errors(0.1),
  videos: [video, { ...video, pipelinePsnr: 30 }],
  latents: undefined,
  ...changes,
});

const values = (of: ComponentDrift): Record<string, number | null> =>
  Object.fromEntries(Object.entries(driftMetrics(of)).map(([name, { value }]) => [name, value]));

describe('driftMetrics', () => {
  it('has the whole pipeline, and nothing of components that are the same', () => {
    expect(values(drift({}))).toEqual({
      pipeline_sqnr: 10,
      pipeline_sqnr_min: 10,
      pipeline_psnr: 35,
      pipeline_psnr_median: 35,
      pipeline_ssim: 0.9,
    });
  });

  it('has the text encoder alone', () => {
    const embeddings = [
      { prompt: 'a', sqnr: 40, cosine: 0.999 },
      { prompt: 'b', sqnr: 50, cosine: 0.9999 },
    ];
    const measured = drift({ embeddings, encoderErrors: errors(0.01, 0.0001) });
    expect(values(measured)).toMatchObject({
      embedding_sqnr: 45,
      embedding_sqnr_min: 40,
      embedding_cosine_min: 0.999,
      text_encoder_sqnr: 30,
      text_encoder_sqnr_min: 20,
    });
    expect(driftMetrics(measured).text_encoder_sqnr).toMatchObject({ unit: 'dB', better: 'higher', n: 2 });
  });

  it('has either half of the VAE alone', () => {
    const videos = [
      { ...video, vaePsnr: 60 },
      { ...video, vaePsnr: 70 },
    ];
    const latents = [difference([1, 0], [1, 0.1])];
    expect(values(drift({ videos, latents }))).toMatchObject({
      vae_decoder_psnr: 65,
      vae_decoder_psnr_min: 60,
      vae_encoder_sqnr: expect.closeTo(20, 6),
    });
  });
});

it('holds the embeddings of each distinct prompt against each other', async () => {
  const of = (...data: number[]) => ({ data: Float32Array.from(data), length: 1, features: 2 });
  const stored = (embeddings: Record<string, ReturnType<typeof of>>) => ({
    get: async (prompt: string) => embeddings[prompt] as ReturnType<typeof of>,
  });
  const reference = stored({ a: of(1, 0), b: of(0, 2), '': of(9, 9) });
  const quantized = stored({ a: of(1, 0), b: of(0, 1), '': of(0, 0) });
  expect(await embeddingErrors(['a', 'b', 'a'], reference, quantized)).toEqual([
    { prompt: 'a', sqnr: Number.POSITIVE_INFINITY, cosine: 1 },
    { prompt: 'b', sqnr: expect.closeTo(10 * Math.log10(4), 6), cosine: 1 },
  ]);
  const wider = stored({ a: { ...of(1, 0), features: 1, length: 2 } });
  await expectRejection(embeddingErrors(['a'], reference, wider), 'PIPELINE_INVALID');
});

it('keeps what results show of a drift', () => {
  const facts = { fingerprint: 'f', bytes: 1 };
  const changed = [{ component: 'text_encoder', reference: facts, quantized: facts }];
  const measured = drift({ changed });
  expect(driftSection(measured)).toEqual({ changed, embeddings: [], videos: measured.videos });
  expect([isChanged(changed, 'text_encoder'), isChanged(changed, 'vae_decoder')]).toEqual([true, false]);
});
