import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { readJson } from '../util/json.js';

/** Version of results.json. Readers refuse another one. */
export const RESULTS_SCHEMA = 1;

/** A measured number. JSON has no infinities; they travel as text. null: not measured, and `note` says why. */
const figure = z
  .union([z.number(), z.enum(['Infinity', '-Infinity', 'NaN']), z.null()])
  .transform((value) => (typeof value === 'string' ? Number(value) : value));

const metric = z.strictObject({
  value: figure,
  unit: z.string(),
  /** Which way is better; null where neither is. */
  better: z.enum(['lower', 'higher']).nullable(),
  /** Samples it was taken over. */
  n: z.int().nonnegative(),
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

export const resultsSchema = z.strictObject({
  schema: z.literal(RESULTS_SCHEMA),
  createdAt: z.string(),
  wanqVersion: z.string(),
  runtimeVersion: z.string(),
  nodeVersion: z.string(),
  platform: z.string(),
  settings: z.strictObject({
    prompts: z.int(),
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
    features: z.string().nullable(),
    noiseFloor: z.string(),
  }),
  reference: modelFacts,
  quantized: modelFacts,
  metrics: z.record(z.string(), metric),
  psnrDrop: z.array(
    z.strictObject({ prompt: z.string(), sigma: z.number(), reference: figure, quantized: figure, drop: figure }),
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
  videos: z.array(
    z.strictObject({
      prompt: z.string(),
      seed: z.int(),
      psnr: figure,
      ssim: figure,
      floorPsnr: figure,
      floorSsim: figure,
      /** Strip of frames, relative to results.json. */
      strip: z.string().nullable(),
    }),
  ),
  /** Absent where text encoder and VAE are the same. */
  components: components.optional(),
});

export type Results = z.infer<typeof resultsSchema>;
export type Metric = z.infer<typeof metric>;

/** @throws WanqError RESULTS_INVALID, NOT_FOUND */
export async function readResults(file: string): Promise<Results> {
  const { schema } = await readJson(file, z.looseObject({ schema: z.unknown().optional() }), 'RESULTS_INVALID');
  if (schema !== RESULTS_SCHEMA) {
    const why =
      schema === undefined
        ? 'is no results.json of wanq'
        : `has results schema ${printable(String(schema), 20)}; this wanq reads ${RESULTS_SCHEMA}`;
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
