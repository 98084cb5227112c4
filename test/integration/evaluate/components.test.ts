import { rm } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { evaluate } from '../../../src/evaluate/evaluate.js';
import type { EvaluateOptions, EvaluationProgress } from '../../../src/evaluate/options.js';
import { judge } from '../../../src/gate/judge.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { type ComponentOptions, RewrittenComponents } from '../../../src/quantize/components/index.js';
import { markdownReport } from '../../../src/report/markdown.js';
import { type Results, resultsSchema, resultsToJson } from '../../../src/report/results.js';
import { copyTree } from '../../../src/util/files.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const work = temporaryFolder();
const PROMPTS = [
  'a small red circle moving left over a dark background',
  'a large blue ring bouncing over a sand background',
];

/** The micro pipeline with these components rewritten, and its transformer as it is. */
async function pipelineWith(name: string, options: ComponentOptions): Promise<string> {
  const target = path.join(work, name);
  await copyTree(MICRO_PIPELINE, target, false);
  const components = await RewrittenComponents.open(await PipelineFolder.open(MICRO_PIPELINE), options);
  for (const { component } of components.plans) await rm(path.join(target, component), { recursive: true });
  await components.save(target, { verify: 'load' });
  await components.close();
  return target;
}

function evaluateMicro(quantized: string, changes: Partial<EvaluateOptions> = {}): Promise<Results> {
  return evaluate({
    reference: MICRO_PIPELINE,
    quantized,
    prompts: PROMPTS,
    negativePrompt: '',
    seedsPerPrompt: 1,
    seed: 11,
    steps: 2,
    guidance: 3,
    sigmas: [0.5],
    inspected: 1,
    noiseFloor: 'none',
    linears: false,
    device: 'cpu',
    ...changes,
  });
}

const within = (results: Results, name: string, low: number, high: number): void => {
  const { value } = results.metrics[name] as { value: number };
  expect(value, name).toBeGreaterThan(low);
  expect(value, name).toBeLessThan(high);
};

beforeAll(() => {
  vi.stubEnv('TMPDIR', work);
});

describe('a pipeline whose text encoder and VAE differ, and whose transformer does not', () => {
  const progress = new Map<string, EvaluationProgress>();
  let results: Results;

  beforeAll(async () => {
    const quantized = await pipelineWith('both', { textEncoder: 'w8', vae: 'fp16', target: 'ort-cpu' });
    results = await evaluateMicro(quantized, { onProgress: (event) => progress.set(event.stage, event) });
  });

  it('has no error of the transformer', () => {
    expect(results.metrics).toMatchObject({
      sqnr: { value: Number.POSITIVE_INFINITY },
      psnr: { value: Number.POSITIVE_INFINITY, n: 2 },
      psnr_drop: { value: 0 },
    });
  });

  it('has what each component drifts alone', () => {
    within(results, 'embedding_sqnr', 40, 52);
    within(results, 'embedding_cosine_min', 0.9999, 1);
    within(results, 'text_encoder_sqnr', 50, 110);
    within(results, 'text_encoder_sqnr_min', 45, 100);
    within(results, 'vae_decoder_psnr', 60, 90);
    within(results, 'vae_encoder_sqnr', 70, 95);
    expect(results.components?.embeddings.map(({ prompt }) => prompt)).toEqual(PROMPTS);
  });

  it('has what all drift together, which here is the text encoder through the transformer', () => {
    expect(results.metrics.pipeline_sqnr?.value).toBeCloseTo(results.metrics.text_encoder_sqnr?.value as number, 6);
    within(results, 'pipeline_psnr', 40, (results.metrics.vae_decoder_psnr?.value as number) + 1);
    within(results, 'pipeline_ssim', 0.98, 1);
    const [video, ...others] = results.components?.videos ?? [];
    expect(others).toEqual([]);
    expect(video).toMatchObject({ prompt: PROMPTS[0], seed: 11, transformerPsnr: Number.POSITIVE_INFINITY });
  });

  it('names both forms of what changed', () => {
    expect(results.components?.changed.map(({ component }) => component)).toEqual([
      'text_encoder',
      'vae_decoder',
      'vae_encoder',
    ]);
    for (const { reference, quantized } of results.components?.changed ?? []) {
      expect(quantized.bytes).toBeLessThan(reference.bytes);
      expect(quantized.fingerprint).not.toBe(reference.fingerprint);
    }
  });

  it('can be saved, shown and gated', () => {
    expect(resultsSchema.safeParse(JSON.parse(resultsToJson(results))).success).toBe(true);
    const rules = (['text_encoder_sqnr', 'vae_decoder_psnr', 'pipeline_sqnr', 'pipeline_psnr'] as const).map(
      (metric) => ({
        metric,
        operator: '>=' as const,
        limit: 30,
        level: 'error' as const,
      }),
    );
    const verdict = judge(results.metrics, rules);
    expect(verdict.passed).toBe(true);
    expect(judge(results.metrics, [{ ...(rules[0] as (typeof rules)[0]), limit: 200 }]).passed).toBe(false);
    expect(markdownReport(results, verdict)).toContain('| all together |');
  });

  it('comes to the end of every stage', () => {
    for (const { stage, done, total } of progress.values()) expect(done, stage).toBe(total);
    expect(progress.has('the whole pipeline')).toBe(true);
  });
});

it('has nothing of the text encoder where only the VAE differs', async () => {
  const results = await evaluateMicro(await pipelineWith('vae', { vae: 'fp16', target: 'ort-cpu' }), {
    prompts: PROMPTS.slice(0, 1),
    steps: 1,
    guidance: 1,
  });
  expect(Object.keys(results.metrics).filter((name) => /^(text_encoder|embedding)_/.test(name))).toEqual([]);
  expect(results.components?.embeddings).toEqual([]);
  // The whole pipeline makes the reference's latents, and another decoder's video of them.
  expect(results.metrics.pipeline_sqnr?.value).toBe(Number.POSITIVE_INFINITY);
  expect(results.metrics.pipeline_psnr?.value).toBe(results.metrics.vae_decoder_psnr?.value);
});
