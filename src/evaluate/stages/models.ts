import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { addDifferences, type Difference, relativeError } from '../../numerics/stats.js';
import { loadModel } from '../../onnx/load.js';
import { saveModel } from '../../onnx/save.js';
import { runPasses } from '../../passes/pass.js';
import { roundWeights } from '../../passes/round-weights.js';
import { branchesAt } from '../../pipeline/denoise.js';
import type { SessionOptions } from '../../runtime/protocol.js';
import type { NoiseFloor } from '../options.js';
import type { LatentClip, RunContext, StepError } from '../runs.js';
import type { StoredEmbeddings } from '../stored-embeddings.js';
import { inSequence, type ModelOutcome, type Workbench } from '../workbench.js';

/** Names that latents are kept under in the scratch folder. */
export const keys = {
  take: (model: string, take: number): string => `${model}-take${take}`,
  /** Trajectory of the reference. */
  record: (take: number): string => `take${take}`,
  renoised: (model: string, clip: number, sigma: number): string => `${model}-clip${clip}-${sigma}`,
} as const;

/** What both transformers are called among the devices. */
export const LABELS = { reference: 'reference transformer', quantized: 'quantized transformer' } as const;

interface ModelRun<T> {
  readonly result: T;
  readonly outcome: ModelOutcome;
}

export interface ReferenceRun {
  readonly clips: readonly LatentClip[];
  /** Of the reference transformer, fed the quantized encoder's embeddings; undefined where the encoder is the same. */
  readonly encoderErrors: readonly StepError[] | undefined;
}

export interface QuantizedRun {
  readonly errors: readonly StepError[];
  /** Distance from the reference's chains after each step, of each inspected take. */
  readonly drift: readonly (readonly Difference[])[];
  /** With the quantized pipeline's own text encoder. */
  readonly pipelineErrors: readonly StepError[];
}

function chainLength({ options }: Workbench): number {
  return options.steps * branchesAt(options.guidance).length;
}

function records({ inspected }: Workbench) {
  return inspected.map((take, i) => ({ take, record: keys.record(i) }));
}

/**
 * The reference model: every take, with records of the inspected ones, and the re-noised clips.
 * @param clips absent: its own finished latents
 * @param own embeddings of the quantized pipeline's text encoder, where that is another
 */
export function runReference(
  bench: Workbench,
  context: RunContext,
  clips: readonly LatentClip[] | undefined,
  own: StoredEmbeddings | undefined,
): Promise<ModelRun<ReferenceRun>> {
  const { takes, inspected, options } = bench;
  const count = (clips ?? inspected).length * options.sigmas.length;
  bench.begin('reference model', (takes.length + (own ? inspected.length : 0)) * chainLength(bench) + count);
  const source = { path: bench.reference.modelPath('transformer') };
  return bench.runModel(LABELS.reference, source, bench.referenceDevice, context, async (runs) => {
    for (const [i, take] of takes.entries()) {
      const record = i < inspected.length ? keys.record(i) : undefined;
      await runs.sample(take, keys.take('reference', i), { record });
    }
    const latentClips = clips ?? inspected.map(({ prompt }, i) => ({ prompt, key: keys.take('reference', i) }));
    const encoderErrors =
      own && (await runs.fed(own).teacherForced('reference with the quantized encoder', records(bench)));
    await renoiseAll('reference', bench, runs, latentClips);
    return { clips: latentClips, encoderErrors };
  });
}

/** The quantized model: teacher forcing at the reference's records, every take, and the same re-noised clips. */
export function runQuantized(
  bench: Workbench,
  context: RunContext,
  clips: readonly LatentClip[],
  own: StoredEmbeddings | undefined,
): Promise<ModelRun<QuantizedRun>> {
  const { takes, inspected, options } = bench;
  const chains = takes.length + inspected.length * (own ? 3 : 1);
  bench.begin('quantized model', chains * chainLength(bench) + clips.length * options.sigmas.length);
  const source = { path: bench.quantized.modelPath('transformer') };
  return bench.runModel(LABELS.quantized, source, options.device, context, async (runs) => {
    const errors = await runs.teacherForced('quantized', records(bench));
    const drift = await inSequence(takes, (take, i) => {
      const against = i < inspected.length ? keys.record(i) : undefined;
      return runs.sample(take, keys.take('quantized', i), { against });
    });
    await renoiseAll('quantized', bench, runs, clips);
    const looked = drift.slice(0, inspected.length);
    if (!own) return { errors, drift: looked, pipelineErrors: errors };
    const whole = runs.fed(own);
    const pipelineErrors = await whole.teacherForced('pipeline', records(bench));
    for (const [i, take] of inspected.entries()) await whole.sample(take, keys.take('pipeline', i));
    return { errors, drift: looked, pipelineErrors };
  });
}

/** How sessions of a noise floor are opened. */
const HARMLESS: Readonly<Record<Exclude<NoiseFloor, 'none'>, Partial<SessionOptions>>> = {
  'fp16-weights': {},
  'optimization-level': { optimization: 'disabled' },
  // Sums are split otherwise among threads, and so are rounded otherwise.
  threads: { threads: 1 },
};

/**
 * The reference model under a harmless change, on the inspected takes.
 * @returns distance from the reference's chains after each step, of each take; undefined where no floor was asked for
 */
export async function runNoiseFloor(
  bench: Workbench,
  context: RunContext,
): Promise<readonly (readonly Difference[])[] | undefined> {
  const { noiseFloor } = bench.options;
  if (noiseFloor === 'none') return undefined;
  const { inspected, referenceDevice } = bench;
  bench.begin('noise floor', inspected.length * chainLength(bench));
  const rounded = noiseFloor === 'fp16-weights' ? path.join(bench.scratch.folder, 'rounded') : undefined;
  try {
    const source = rounded === undefined ? bench.reference.modelPath('transformer') : await saveRounded(bench, rounded);
    const { result } = await bench.runModel(
      'noise floor',
      { path: source },
      referenceDevice,
      context,
      (runs) =>
        inSequence(inspected, (take, i) => runs.sample(take, keys.take('floor', i), { against: keys.record(i) })),
      HARMLESS[noiseFloor],
    );
    return result;
  } finally {
    if (rounded !== undefined) await rm(rounded, { recursive: true, force: true });
  }
}

/**
 * Saves the reference with weights rounded to FP16 and back.
 * @param folder emptied: an evaluation that was killed may have left it
 * @returns file of the graph
 */
async function saveRounded({ reference }: Workbench, folder: string): Promise<string> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  const loaded = await loadModel(reference.modelPath('transformer'));
  try {
    runPasses(loaded.model, [roundWeights]);
    await saveModel(loaded.model, loaded, folder);
  } finally {
    await loaded.close();
  }
  return path.join(folder, 'model.onnx');
}

async function renoiseAll(
  model: string,
  { options }: Workbench,
  runs: { renoised(clip: LatentClip, sigma: number, position: readonly [number, number], key: string): Promise<void> },
  clips: readonly LatentClip[],
): Promise<void> {
  for (const [c, clip] of clips.entries()) {
    for (const [s, sigma] of options.sigmas.entries()) {
      await runs.renoised(clip, sigma, [c, s], keys.renoised(model, c, s));
    }
  }
}

/** @returns relative distance after each step, pooled over takes */
export function pooledDrift(takes: readonly (readonly Difference[])[] | undefined, step: number): number | null {
  const errors = (takes ?? []).flatMap((distances) => distances[step] ?? []);
  return errors.length > 0 ? relativeError(errors.reduce(addDifferences)) : null;
}
