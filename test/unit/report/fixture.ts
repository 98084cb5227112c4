import type { Results } from '../../../src/report/results.js';

const facts = {
  path: 'models/fp32',
  fingerprint: 'f'.repeat(64),
  transformerBytes: 20_000_000_000,
  provider: 'cpu',
  peakBytes: 1500,
  forwardMs: 12.345,
  calibratedOn: null,
};

/** A drift of the text encoder and of the VAE's decoder. */
export const COMPONENTS: NonNullable<Results['components']> = {
  changed: [
    {
      component: 'text_encoder',
      reference: { fingerprint: 'a'.repeat(64), bytes: 11_400_000_000 },
      quantized: { fingerprint: 'b'.repeat(64), bytes: 8_300_000_000 },
    },
    {
      component: 'vae_decoder',
      reference: { fingerprint: 'c'.repeat(64), bytes: 2_220_000_000 },
      quantized: { fingerprint: 'd'.repeat(64), bytes: 1_110_000_000 },
    },
  ],
  embeddings: [{ prompt: 'a', sqnr: 45, cosine: 0.9999 }],
  videos: [
    { prompt: 'a|b', seed: 7, transformerPsnr: 50, vaePsnr: 72.5, pipelinePsnr: 49.25, pipelineSsim: 0.998 },
    { prompt: 'c', seed: 8, transformerPsnr: 40, vaePsnr: null, pipelinePsnr: 39, pipelineSsim: 0.99 },
  ],
};

export const VIDEO: Results['videos'][number] = {
  ...{ prompt: 'a', seed: 7, psnr: 33.333, ssim: 0.5, msSsim: 0.75, temporalPsnr: 35, flicker: 1.01, lpips: null },
  ...{ floorPsnr: 40, floorSsim: 0.9, sqnr: 31, sqnrMin: 29, framePsnr: [33, Number.POSITIVE_INFINITY] },
  ...{ strip: null, sheets: null },
};

export const LINEAR: Results['linears'][number] = {
  ...{ linear: 'blocks.0.ffn.up', shape: [128, 576], precision: 'int8', reason: 'scheme ffn', smoothing: 0.5 },
  ...{ low: -1, high: 2, clipped: 0.001, sqnr: 40, attainable: 41, excess: 1, scaleRatio: 1, sensitivity: null },
};

/** Results with every kind of figure: numbers, infinities, NaN and none. */
export function results(changes: Partial<Results> = {}): Results {
  return {
    schema: 2,
    createdAt: '2026-11-24T00:00:00.000Z',
    wanqVersion: '0.1.0',
    runtimeVersion: '1.30.0',
    nodeVersion: 'v20.20.2',
    platform: 'linux-x64',
    settings: {
      prompts: 1,
      promptsDigest: 'e'.repeat(64),
      seedsPerPrompt: 2,
      seed: 7,
      steps: 4,
      guidance: 5,
      negativePrompt: '',
      scheduler: 'UniPCMultistepScheduler',
      latents: [4, 5, 8, 8],
      sigmas: [0.25, 0.5],
      clips: 'own latents',
      clipsDigest: null,
      features: null,
      featuresDigest: null,
      perceptual: null,
      noiseFloor: 'fp16-weights',
    },
    reference: facts,
    quantized: { ...facts, path: 'models/int8', transformerBytes: 5_000_000_000 },
    devices: [
      {
        component: 'quantized transformer',
        asked: 'auto',
        ran: 'webgpu',
        refused: [{ provider: 'cuda', reason: 'no | library' }],
        nodes: { WebGpuExecutionProvider: 954, CPUExecutionProvider: 208 },
        peakBytes: 1500,
        deviceBytes: null,
      },
    ],
    timing: { wallMs: 1000, modelMs: 950 },
    metrics: {
      psnr_drop: {
        ...{ value: 0.125, unit: 'dB', better: 'lower', n: 4, median: 0.1, worst: 3 },
        interval: { low: -0.5, high: 0.75, level: 0.95, units: 2 },
      },
      psnr: { value: Number.POSITIVE_INFINITY, unit: 'dB', better: 'higher', n: 2 },
      sqnr_min: { value: Number.NEGATIVE_INFINITY, unit: 'dB', better: 'higher', n: 2 },
      cosine_min: { value: Number.NaN, unit: '', better: 'higher', n: 2 },
      fvd_growth: { value: null, unit: '%', better: 'lower', n: 0, note: 'no features' },
    },
    psnrDrop: [
      { clip: 0, prompt: 'a', sigma: 0.25, reference: 40, quantized: 39, drop: 1 },
      { clip: 1, prompt: 'b', sigma: 0.25, reference: 42, quantized: 39, drop: 3 },
      {
        ...{ clip: 0, prompt: 'a', sigma: 0.5 },
        ...{ reference: Number.POSITIVE_INFINITY, quantized: 30, drop: Number.POSITIVE_INFINITY },
      },
    ],
    steps: [{ step: 0, timestep: 999, branch: 'cond', sqnr: 30, cosine: 0.9995, relativeError: 0.03 }],
    drift: [{ step: 0, timestep: 999, quantized: 0.02, floor: null }],
    videos: [{ ...VIDEO, ssim: null, floorPsnr: Number.NaN }],
    linears: [LINEAR],
    ...changes,
  };
}
