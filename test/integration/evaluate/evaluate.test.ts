import { readdirSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { evaluate } from '../../../src/evaluate/evaluate.js';
import type { EvaluateOptions, EvaluationProgress } from '../../../src/evaluate/options.js';
import type { Video } from '../../../src/pipeline/vae.js';
import type { Results } from '../../../src/report/results.js';
import { readSafetensors, writeSafetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();
const PROMPTS = [
  'a small red circle moving left over a dark background',
  'a large blue ring bouncing over a sand background',
];

function evaluateMicro(changes: Partial<EvaluateOptions>): Promise<Results> {
  return evaluate({
    reference: MICRO_PIPELINE,
    quantized: MICRO_PIPELINE,
    prompts: PROMPTS,
    negativePrompt: '',
    seedsPerPrompt: 1,
    seed: 11,
    steps: 2,
    guidance: 3,
    sigmas: [0.5],
    inspected: 1,
    noiseFloor: 'none',
    device: 'cpu',
    ...changes,
  });
}

const scratchFolders = (): string[] => readdirSync(folder).filter((name) => name.startsWith('wanq-'));

beforeAll(() => {
  vi.stubEnv('TMPDIR', folder);
});

describe('a pipeline held against itself', () => {
  const progress: EvaluationProgress[] = [];
  const strips: [number, Video, Video][] = [];
  let results: Results;

  beforeAll(async () => {
    results = await evaluateMicro({
      features: path.join(MICRO, 'fvd'),
      noiseFloor: 'fp16-weights',
      onProgress: (event) => progress.push(event),
      onVideo: async (index, reference, quantized) => {
        strips.push([index, reference, quantized]);
        return { strip: `strip-${index}.png`, sheets: null };
      },
    });
  });

  it('has no error', () => {
    expect(results.metrics).toMatchObject({
      psnr_drop: { value: 0, n: 1 },
      psnr_drop_max: { value: 0 },
      sqnr: { value: Number.POSITIVE_INFINITY, n: 4 },
      sqnr_min: { value: Number.POSITIVE_INFINITY },
      cosine_min: { value: 1 },
      psnr: { value: Number.POSITIVE_INFINITY, n: 2 },
      ssim: { value: 1, n: 2 },
      size_ratio: { value: 1 },
      int8_speed_bound: { value: 1 },
    });
    expect(results.quantized.fingerprint).toBe(results.reference.fingerprint);
    expect(results.psnrDrop).toHaveLength(1);
    expect(results.psnrDrop[0]?.reference).toBeGreaterThan(10);
  });

  it('has a row for every step, branch and video', () => {
    expect(results.steps.map(({ step, branch, relativeError }) => [step, branch, relativeError])).toEqual([
      [0, 'cond', 0],
      [0, 'uncond', 0],
      [1, 'cond', 0],
      [1, 'uncond', 0],
    ]);
    expect(results.videos.map(({ prompt, seed, strip }) => [prompt, seed, strip])).toEqual([
      [PROMPTS[0], 11, 'strip-0.png'],
      [PROMPTS[1], 12, null],
    ]);
  });

  it('says where every component ran', () => {
    expect(results.devices.map(({ component, asked, ran }) => [component, asked, ran])).toEqual([
      ['text_encoder', 'cpu', 'cpu'],
      ['reference transformer', 'cpu', 'cpu'],
      ['quantized transformer', 'cpu', 'cpu'],
      ['noise floor', 'cpu', 'cpu'],
      ['vae_decoder', 'cpu', 'cpu'],
      ['fvd', 'cpu', 'cpu'],
    ]);
    expect(results.timing.modelMs).toBeGreaterThan(0);
    expect(results.timing.modelMs).toBeLessThan(results.timing.wallMs);
  });

  it('has every linear as it is in the reference, but for the rounding of other kernels', () => {
    expect(results.linears.length).toBe(66);
    expect(Math.min(...results.linears.map(({ sqnr }) => sqnr as number))).toBeGreaterThan(100);
    expect(results.metrics.linear_excess).toMatchObject({ value: 0, n: 66 });
    expect(results.metrics.scale_ratio_max).toMatchObject({
      value: 1,
      n: 66,
      note: expect.stringContaining('no scale'),
    });
  });

  it('drifts nowhere, and the noise floor a little, more at the end', () => {
    expect(results.drift.map(({ step, quantized }) => [step, quantized])).toEqual([
      [0, 0],
      [1, 0],
    ]);
    const [first, last] = results.drift.map(({ floor }) => floor as number) as [number, number];
    expect(first).toBeGreaterThan(0);
    expect(last).toBeGreaterThan(first);
    expect(last).toBeLessThan(0.05);
    expect(results.metrics.latent_drift).toMatchObject({ value: 0, n: 1 });
  });

  it('has figures of each inspected video, and of the others what every video has', () => {
    const [looked, other] = results.videos;
    expect(looked).toMatchObject({ msSsim: 1, temporalPsnr: Number.POSITIVE_INFINITY, flicker: 1, lpips: null });
    expect(looked?.framePsnr).toEqual(new Array(17).fill(Number.POSITIVE_INFINITY));
    expect(looked?.sqnr).toBe(Number.POSITIVE_INFINITY);
    expect(other).toMatchObject({ msSsim: 1, framePsnr: null, sqnr: null, sqnrMin: null });
  });

  it('has a noise floor that is small and no zero', () => {
    expect(results.metrics.psnr_floor?.n).toBe(1);
    expect(results.metrics.psnr_floor?.value).toBeGreaterThan(30);
    expect(results.metrics.psnr_floor?.value).toBeLessThan(100);
    expect(results.metrics.ssim_floor?.value).toBeGreaterThan(0.9);
    expect(results.metrics.ssim_floor?.value).toBeLessThan(1);
  });

  it('has no FVD, since two videos cannot span the features', () => {
    for (const name of ['fvd_reference', 'fvd_quantized', 'fvd_growth']) {
      expect(results.metrics[name]).toMatchObject({ value: null, n: 2, note: expect.stringMatching(/2 videos.*32/) });
    }
  });

  it('shows the frames of the inspected video', () => {
    expect(strips).toHaveLength(1);
    const [index, reference, quantized] = strips[0] as [number, Video, Video];
    expect([index, reference.frames, reference.height, reference.width]).toEqual([0, 17, 128, 128]);
    expect(new Set(reference.data).size).toBeGreaterThan(50);
    expect(Buffer.from(quantized.data).equals(reference.data)).toBe(true);
  });

  it('comes to the end of every stage and leaves nothing behind', () => {
    const last = new Map(progress.map(({ stage, done, total }) => [stage, [done, total]]));
    for (const [done, total] of last.values()) expect(done).toBe(total);
    expect([...last.keys()]).toEqual(
      expect.arrayContaining(['reference model', 'quantized model', 'noise floor', 'decoding and comparing']),
    );
    expect(scratchFolders()).toEqual([]);
  });
});

describe('on clips of the user and without a feature network', () => {
  let results: Results;
  let clips: string;

  beforeAll(async () => {
    const all = await readSafetensors(path.join(MICRO, 'clips.safetensors'));
    const { shape, data } = all.tensors.get('clips') ?? { shape: [], data: new Uint8Array() };
    const one = shape.slice(1).reduce((a, b) => a * b, 1);
    clips = path.join(folder, 'clips.safetensors');
    await writeSafetensors(clips, {
      tensors: new Map([
        ['clips', { dtype: 'U8', shape: [1, ...shape.slice(1)], data: data.slice(0, one) as Uint8Array }],
      ]),
      metadata: { prompts: JSON.stringify(JSON.parse(all.metadata.prompts as string).slice(0, 1)) },
    });
    results = await evaluateMicro({ clips, prompts: PROMPTS.slice(0, 1), guidance: 1, sigmas: [0.1, 0.8] });
  });

  it('measures the drop on the clips, more noise costing more', () => {
    expect(results.settings.clips).toBe(clips);
    expect(results.psnrDrop.map(({ sigma, drop }) => [sigma, drop])).toEqual([
      [0.1, 0],
      [0.8, 0],
    ]);
    const [little, much] = results.psnrDrop.map(({ reference }) => reference as number) as [number, number];
    expect(little).toBeGreaterThan(20);
    expect(much).toBeLessThan(little);
  });

  it('runs the prompt alone at guidance 1', () => {
    expect(results.steps.map(({ branch }) => branch)).toEqual(['cond', 'cond']);
  });

  it('says why there is no FVD and no noise floor', () => {
    expect(results.metrics.fvd_growth).toMatchObject({
      value: null,
      n: 0,
      note: expect.stringContaining('--features'),
    });
    expect(results.metrics.psnr_floor).toMatchObject({ value: null, n: 0 });
  });
});

it('stops when it is told to, and leaves nothing behind', async () => {
  const controller = new AbortController();
  const stopped = evaluateMicro({
    signal: controller.signal,
    onProgress: ({ stage, done }) => {
      if (stage !== 'reference model' || done !== 1) return;
      expect(scratchFolders()).toHaveLength(1);
      controller.abort(new Error('enough'));
    },
  });
  await expect(stopped).rejects.toThrow('enough');
  expect(scratchFolders()).toEqual([]);
});
