import path from 'node:path';
import { calibrate } from '../../src/calibrate/calibrate.js';
import { evaluate } from '../../src/evaluate/evaluate.js';
import type { SharedReference } from '../../src/evaluate/shared-reference.js';
import { readPrompts } from '../../src/pipeline/prompts.js';
import { type QuantizeOptions, type QuantizeSummary, quantize } from '../../src/quantize/quantize.js';
import type { Results } from '../../src/report/results.js';
import { ROOT } from './paths.js';

export const MICRO = path.join(ROOT, 'fixtures', 'micro-wan');
export const MICRO_PIPELINE = path.join(MICRO, 'pipeline');

/** How videos of the micro pipeline are made in benches of quality. */
export const SAMPLING = { steps: 20, guidance: 5, negativePrompt: '', device: 'cpu' } as const;

export async function promptsOf(set: 'calibration' | 'eval', count: number): Promise<string[]> {
  return (await readPrompts(path.join(ROOT, 'prompts', `${set}.txt`))).slice(0, count);
}

/** Calibrates a pipeline of the micro model's size over the first prompts. @returns the file */
export async function calibrateMicro(folder: string, count: number, pipeline = MICRO_PIPELINE): Promise<string> {
  const output = path.join(folder, `calibration-${count}.safetensors`);
  const prompts = await promptsOf('calibration', count);
  await calibrate({ ...SAMPLING, pipeline, prompts, seed: 0, output, buckets: 5, tokens: 'auto' });
  return output;
}

type Choice = Pick<QuantizeOptions, 'scheme' | 'target' | 'method' | 'calibration' | 'output'> &
  Partial<QuantizeOptions>;

export function quantizeMicro(choice: Choice): Promise<QuantizeSummary> {
  return quantize({ pipeline: MICRO_PIPELINE, percentile: 99.999, keep: [], link: true, ...choice });
}

/** Evaluates on prompts and seeds that no calibration saw. */
export async function evaluateMicro(
  quantized: string,
  reference = MICRO_PIPELINE,
  clips = true,
  shared?: SharedReference,
): Promise<Results> {
  return evaluate({
    ...SAMPLING,
    reference,
    quantized,
    prompts: await promptsOf('eval', 4),
    seedsPerPrompt: 1,
    seed: 1000,
    sigmas: [0.3, 0.5, 0.7, 0.85],
    clips: clips ? path.join(MICRO, 'clips.safetensors') : undefined,
    inspected: 4,
    noiseFloor: 'none',
    shared,
  });
}

/** A metric's value, which every run of {@link evaluateMicro} has. */
export function metricOf({ metrics }: Results, name: string): number {
  const { value } = metrics[name] ?? { value: null };
  if (value === null) throw new Error(`no ${name} was measured`);
  return value;
}
