import type { JudgedMetric, JudgedResults } from '../../../src/gate/subject.js';
import { RESULTS_SCHEMA, type Results } from '../../../src/report/results.js';

/** Text that means something to whoever prints it: a terminal, GitHub's runner, Markdown, HTML, XML, a shell. */
export const HOSTILE =
  '\u001b[31m::error::x\n::set-output name=a::b\r##[add-mask]e|<img src=x onerror=alert(1)>`c`[l](http://e.vil/x)' +
  '![i](//e.vil)**b** @team #1 $(touch pwned) $a$ %0A]]>\u0000\uFFFE\uD800 "q" &lt;';

export const dB = (value: number | null, more: Partial<JudgedMetric> = {}): JudgedMetric => ({
  value,
  unit: 'dB',
  better: 'higher',
  n: 8,
  ...more,
});

/** Results of two prompts and two steps, good enough for any rule. */
export function results(changes: Partial<JudgedResults> = {}): JudgedResults {
  return {
    settings: {
      prompts: 2,
      promptsDigest: 'd'.repeat(64),
      seedsPerPrompt: 1,
      seed: 1000,
      steps: 2,
      guidance: 3,
      negativePrompt: '',
      scheduler: 'UniPCMultistepScheduler',
      latents: [4, 5, 8, 8],
      sigmas: [0.3, 0.7],
      clipsDigest: 'b'.repeat(64),
      featuresDigest: null,
    },
    reference: { fingerprint: 'f'.repeat(64) },
    metrics: {
      psnr_drop: dB(0.2, { better: 'lower', n: 4 }),
      sqnr: dB(42.5),
      sqnr_min: dB(36),
      psnr: dB(50),
      size_ratio: { value: 0.7, unit: 'x', better: 'lower', n: 1 },
      latency_ratio: { value: 0.9, unit: 'x', better: 'lower', n: 1 },
      fvd_growth: { value: null, unit: '%', better: 'lower', n: 0, note: 'no feature network' },
    },
    psnrDrop: [
      { clip: 0, prompt: 'a', drop: 0.1 },
      { clip: 0, prompt: 'a', drop: 0.3 },
      { clip: 1, prompt: 'b', drop: 0.2 },
      { clip: 1, prompt: 'b', drop: 0.2 },
    ],
    steps: [
      { step: 0, timestep: 999, branch: 'cond', sqnr: 45 },
      { step: 0, timestep: 999, branch: 'uncond', sqnr: 44 },
      { step: 1, timestep: 500.5, branch: 'cond', sqnr: 40 },
      { step: 1, timestep: 500.5, branch: 'uncond', sqnr: 41 },
    ],
    videos: [
      { prompt: 'a', seed: 1000, psnr: 51, sqnr: 43 },
      { prompt: 'b', seed: 1001, psnr: 49, sqnr: 42 },
    ],
    linears: [
      { linear: 'blocks.0.ffn.up', sqnr: 45, attainable: 46, excess: 1 },
      { linear: 'blocks.0.ffn.down', sqnr: 40, attainable: 43, excess: 3 },
      { linear: 'blocks.1.ffn.up', sqnr: null, attainable: 46, excess: null },
    ],
    ...changes,
  };
}

/** The same as results.json has it. */
export function fullResults(changes: Partial<JudgedResults> = {}): Results {
  const { settings, reference, metrics, psnrDrop, steps, videos, linears } = results(changes);
  const facts = {
    ...{ path: 'models/x', transformerBytes: 100, provider: 'cpu', peakBytes: 100, forwardMs: 1, calibratedOn: null },
  };
  const figures = { ssim: null, msSsim: null, temporalPsnr: null, flicker: null, lpips: null };
  const floor = { floorPsnr: null, floorSsim: null, sqnrMin: null, framePsnr: null, strip: null, sheets: null };
  const plan = {
    precision: null,
    reason: null,
    smoothing: null,
    low: null,
    high: null,
    clipped: null,
    scaleRatio: null,
  };
  return {
    schema: RESULTS_SCHEMA,
    createdAt: '2026-11-25T00:00:00.000Z',
    wanqVersion: '0.1.0',
    runtimeVersion: '1.30.0',
    nodeVersion: 'v20.20.2',
    platform: 'linux-x64',
    settings: {
      ...settings,
      latents: [...settings.latents],
      sigmas: [...settings.sigmas],
      clips: 'clips.safetensors',
      features: null,
      perceptual: null,
      noiseFloor: 'none',
    },
    reference: { ...facts, ...reference },
    quantized: { ...facts, fingerprint: 'e'.repeat(64) },
    devices: [],
    timing: { wallMs: 2, modelMs: 1 },
    metrics: metrics as Results['metrics'],
    psnrDrop: psnrDrop.map((row) => ({ ...row, sigma: 0.3, reference: 40, quantized: 40 })),
    steps: steps.map((row) => ({ ...row, branch: row.branch as 'cond', cosine: 1, relativeError: 0 })),
    drift: [],
    videos: videos.map((row) => ({ ...row, ...figures, ...floor })),
    linears: linears.map((row) => ({ ...row, ...plan, shape: [4, 4], sensitivity: null })),
  };
}
