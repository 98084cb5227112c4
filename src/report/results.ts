import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { figure } from '../util/figure.js';
import { readJson } from '../util/json.js';
import { stated } from '../util/stated.js';

/** Version of results.json. Readers refuse another one. */
export const RESULTS_SCHEMA = 2;

/** Where a figure lies if the evaluation were made again with other prompts: bootstrap over prompts, both models paired. */
const interval = z.strictObject({
  low: figure,
  high: figure,
  /** Share of such intervals that hold the true figure. */
  level: z.number(),
  /** Prompts that were resampled. */
  units: z.int().positive(),
});

const metric = z.strictObject({
  value: figure,
  unit: z.string(),
  /** Which way is better; null where neither is. */
  better: z.enum(['lower', 'higher']).nullable(),
  /** Samples it was taken over. */
  n: z.int().nonnegative(),
  /** Absent where there are too few prompts, or none is behind it. */
  interval: interval.optional(),
  /** Of the samples; absent where there are none to tell apart. */
  median: figure.optional(),
  worst: figure.optional(),
  note: z.string().optional(),
});

const modelFacts = z.strictObject({
  path: z.string(),
  /** `wanq` fingerprint of the transformer. */
  fingerprint: z.string(),
  transformerBytes: z.number(),
  /** Execution provider that ran the transformer. */
  provider: z.string(),
  /** Largest resident set of the process that ran it, bytes. */
  peakBytes: z.number(),
  /** Median wall time of one forward, ms. */
  forwardMs: z.number(),
  /** What wanq calibrated it on, where it did: ranges over synthetic inputs say nothing of real prompts. */
  calibratedOn: z.string().nullable().default(null),
});

const componentFacts = z.strictObject({
  fingerprint: z.string(),
  /** Of its folder on disk. */
  bytes: z.number(),
});

/** How far the components beside the transformer drift, where they are others in the quantized pipeline. */
const components = z.strictObject({
  changed: z.array(z.strictObject({ component: z.string(), reference: componentFacts, quantized: componentFacts })),
  /** Of the text encoder, where it changed. */
  embeddings: z.array(z.strictObject({ prompt: z.string(), sqnr: figure, cosine: figure })),
  /** Of the inspected videos, all against the reference pipeline's. */
  videos: z.array(
    z.strictObject({
      prompt: z.string(),
      seed: z.int(),
      /** Of the quantized transformer alone. */
      transformerPsnr: figure,
      /** Of the quantized VAE decoder alone, on the reference's latents; null where it is the same. */
      vaePsnr: figure,
      /** Of the whole quantized pipeline. */
      pipelinePsnr: figure,
      pipelineSsim: figure,
    }),
  ),
});

/** Frames of a video as tiles of one picture, from left to right and from the top down. */
const sheets = z.strictObject({
  reference: z.string(),
  quantized: z.string(),
  /** |reference - quantized|, as colours. */
  difference: z.string(),
  columns: z.int().positive(),
  /** Positions in the video of the frames shown. */
  frames: z.array(z.int().nonnegative()),
  /** Of a tile, pixels. */
  width: z.int().positive(),
  height: z.int().positive(),
});

/** Where a component was asked to run, and where it did. */
const device = z.strictObject({
  component: z.string(),
  /** Name given to `--device`. */
  asked: z.string(),
  /** Execution provider of the session. */
  ran: z.string(),
  /** Providers that were tried before, and why each refused. */
  refused: z.array(z.strictObject({ provider: z.string(), reason: z.string() })),
  /** Nodes of the graph that each provider took, from a profiled run; null where there was none. */
  nodes: z.record(z.string(), z.int()).nullable(),
  /** Largest resident set of its process, bytes. */
  peakBytes: z.number(),
  /** Largest memory of its process on the device, bytes; null where nothing tells it. */
  deviceBytes: z.number().nullable(),
});

/** What quantization did to one linear, by itself. */
const linear = z.strictObject({
  /** As plan files call it. */
  linear: z.string(),
  /** [in, out] features. */
  shape: z.array(z.int()).length(2),
  /** From the plan of the quantized pipeline; null where it has none. */
  precision: z.string().nullable(),
  reason: z.string().nullable(),
  smoothing: z.number().nullable(),
  /** Range of its input that is quantized, after smoothing. */
  low: z.number().nullable(),
  high: z.number().nullable(),
  /** Share of the inputs that were looked at, outside that range. */
  clipped: figure,
  /** Of its output, given the input it really got, dB. */
  sqnr: figure,
  /** What rounding to INT8 should leave there, dB: per-channel weights, and for the input the range of the plan, else of the model, else the best. */
  attainable: figure,
  /** attainable - sqnr, dB: beyond what rounding costs. null where its input is too far from the reference's to tell. */
  excess: figure,
  /** Scale of its input over the one of the plan's range; null where either has none. */
  scaleRatio: figure,
  /** SQNR of the transformer's output with this linear alone quantized, dB, from a sensitivity file. */
  sensitivity: figure,
});

export const resultsSchema = z.strictObject({
  schema: z.literal(RESULTS_SCHEMA),
  createdAt: z.string(),
  wanqVersion: z.string(),
  runtimeVersion: z.string(),
  nodeVersion: z.string(),
  platform: z.string(),
  settings: z.strictObject({
    prompts: z.int(),
    /** SHA-256 of the prompts, one a line. */
    promptsDigest: z.string(),
    seedsPerPrompt: z.int(),
    seed: z.int(),
    steps: z.int(),
    guidance: z.number(),
    negativePrompt: z.string(),
    scheduler: z.string(),
    /** [channels, frames, height, width] */
    latents: z.array(z.int()),
    sigmas: z.array(z.number()),
    /** Where the clips of the re-noising test come from: a file, or the reference model's own latents. */
    clips: z.string(),
    /** SHA-256 of the user's clips; null without any. */
    clipsDigest: z.string().nullable(),
    features: z.string().nullable(),
    featuresDigest: z.string().nullable(),
    perceptual: z.string().nullable(),
    noiseFloor: z.string(),
  }),
  reference: modelFacts,
  quantized: modelFacts,
  devices: z.array(device),
  /** Wall time of the evaluation, and of the models' runs and loading in it, ms. */
  timing: z.strictObject({ wallMs: z.number(), modelMs: z.number() }),
  metrics: z.record(z.string(), metric),
  psnrDrop: z.array(
    /** Of one clip and sigma; prompts may come twice, so clips are numbered. */
    z.strictObject({
      clip: z.int(),
      prompt: z.string(),
      sigma: z.number(),
      reference: figure,
      quantized: figure,
      drop: figure,
    }),
  ),
  steps: z.array(
    z.strictObject({
      step: z.int(),
      timestep: z.number(),
      branch: z.enum(['cond', 'uncond']),
      sqnr: figure,
      cosine: figure,
      relativeError: figure,
    }),
  ),
  /** Distance of free-running chains from the reference's after each step, ||a - b|| / ||a|| of the latents, pooled over the inspected videos. */
  drift: z.array(z.strictObject({ step: z.int(), timestep: z.number(), quantized: figure, floor: figure })),
  videos: z.array(
    z.strictObject({
      prompt: z.string(),
      seed: z.int(),
      psnr: figure,
      ssim: figure,
      msSsim: figure,
      /** Of the differences of consecutive frames, dB. */
      temporalPsnr: figure,
      /** Mean change from frame to frame, quantized over reference. */
      flicker: figure,
      /** By the perceptual network, where one was given. */
      lpips: figure,
      floorPsnr: figure,
      floorSsim: figure,
      /** What follows is of inspected videos alone. Teacher-forced, mean and worst of steps and branches, dB. */
      sqnr: figure,
      sqnrMin: figure,
      framePsnr: z.array(figure).nullable(),
      /** Pictures, relative to results.json: a strip of frames, and sheets of frames for the page. */
      strip: z.string().nullable(),
      sheets: sheets.nullable(),
    }),
  ),
  /** Linears of the reference that were found in the quantized transformer, in the order of the graph. */
  linears: z.array(linear),
  /** Absent where text encoder and VAE are the same. */
  components: components.optional(),
});

export type Results = z.infer<typeof resultsSchema>;
export type Metric = z.infer<typeof metric>;
export type Interval = z.infer<typeof interval>;
export type DeviceRow = z.infer<typeof device>;
export type LinearRow = z.infer<typeof linear>;
export type Sheets = z.infer<typeof sheets>;

/** @throws WanqError RESULTS_INVALID, NOT_FOUND */
export async function readResults(file: string): Promise<Results> {
  const { schema } = await readJson(file, z.looseObject({ schema: z.unknown().optional() }), 'RESULTS_INVALID');
  if (schema !== RESULTS_SCHEMA) {
    const why =
      schema === undefined
        ? 'is no results.json of wanq'
        : `has results schema ${stated(schema)}; this wanq reads ${RESULTS_SCHEMA}`;
    throw new WanqError('RESULTS_INVALID', `${printable(file)} ${why}`, { hint: 'run `wanq eval` again' });
  }
  return readJson(file, resultsSchema as z.ZodType<Results>, 'RESULTS_INVALID');
}

export function resultsToJson(results: Results): string {
  return `${JSON.stringify(results, figureText, 2)}\n`;
}

/** Of figures for `JSON.stringify`: JSON has no infinities. */
export function figureText(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}
