import { copyFile, lstat, mkdir, readdir, realpath, rename, rm, rmdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import type { SharedReference } from '../evaluate/shared-reference.js';
import type { Verdict } from '../gate/judge.js';
import { DEFAULT_PERCENTILE } from '../quantize/options.js';
import { planPipeline } from '../quantize/quantize.js';
import type { Metric } from '../report/results.js';
import {
  assertSpace,
  assertWritable,
  copyTree,
  exists,
  refuseExisting,
  refuseInside,
  treeSize,
  writeFolderAtomic,
} from '../util/files.js';
import { evaluateInto, type Judged } from './evaluation.js';
import { type FailingModel, planPathOf, readFailing } from './failing.js';
import { assertTunable, WEIGHTS_NAME } from './qat.js';
import type { AttemptSettings, RungName } from './rung.js';
import { rungsFor } from './rungs.js';

export interface RemedyOptions extends AttemptSettings {
  /** Pipeline folders. */
  readonly reference: string;
  readonly quantized: string;
  /** Folder to write; it must not exist. */
  readonly output: string;
  /** Called before a rung is tried. */
  readonly onRung?: ((name: RungName) => void) | undefined;
}

/** What became of one rung. */
export interface TriedRung {
  readonly rung: RungName;
  /** Why there was nothing to evaluate; undefined where there was. */
  readonly why: string | undefined;
  readonly evaluated: EvaluatedRung | undefined;
}

export interface EvaluatedRung {
  /** Of the transformer on disk. */
  readonly bytes: number;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly verdict: Verdict;
}

export interface RemedySummary {
  /** In the order in which they were tried. */
  readonly rungs: readonly TriedRung[];
  /** The rung that passes; undefined where none does. */
  readonly passed: RungName | undefined;
  /** Plan file that the rungs behind the first went on from. */
  readonly base: string;
}

/**
 * Finds out before hours of work whether the remedies could be tried.
 *
 * @throws WanqError NOT_FOUND where the quantized pipeline has no plan, or a file is missing; OUTPUT_EXISTS; CALIBRATION_MISMATCH and others of
 * planning; NO_SPACE; RUNTIME_FAILED where fine-tuning is to be run and what it imports is not there
 */
export async function assertRemediable(options: RemedyOptions): Promise<FailingModel> {
  const { reference, quantized, calibration, output, checkpoint, calibrationPrompts, python, signal } = options;
  await refuseExisting(output);
  await assertWritable(output);
  for (const folder of [reference, quantized]) await refuseInside(output, folder);
  const failing = await readFailing(reference, quantized);
  const { plan, planPath } = failing;
  await planPipeline({
    ...{ pipeline: reference, calibration, plan: planPath, scheme: 'blocks', target: plan.target, method: plan.method },
    ...{ percentile: DEFAULT_PERCENTILE, keep: [] },
  });
  for (const given of [checkpoint, calibrationPrompts]) {
    if (given === undefined || (await exists(given))) continue;
    throw new WanqError('NOT_FOUND', `${printable(given)} does not exist`, { hint: 'check the path' });
  }
  if (checkpoint !== undefined && calibrationPrompts !== undefined) await assertTunable(python, signal);
  const own = await ownEntries(quantized);
  const sizes = await Promise.all(own.map((name) => treeSize(path.join(quantized, name))));
  const needed = sizes.reduce((sum, size) => sum + size, 0);
  await assertSpace(output, needed, printable(output), 'link the other components of the quantized pipeline');
  return failing;
}

/**
 * Tries the rungs that apply to a pipeline that failed the gate, one after the other, until one passes. `output` then holds that pipeline, its plan and
 * its evaluation, and in `attempts` the plans and evaluations of the rungs before it; where none passes, the attempts alone.
 *
 * @param failed what was measured of the failing pipeline
 * @param shared what the same evaluation made of the reference
 * @throws WanqError of what is run; `output` is not made then
 */
export function remedy(
  options: RemedyOptions,
  failing: FailingModel,
  failed: Judged,
  shared: SharedReference,
): Promise<RemedySummary> {
  const { reference, quantized, output, measured, rules, signal, onRung } = options;
  return writeFolderAtomic(output, async (folder) => {
    const pipeline = path.join(folder, 'pipeline');
    const rungs: TriedRung[] = [];
    let base: Base = {
      ...{ plan: failing.planPath, lasting: failing.planPath },
      known: failing.trained ? undefined : failed.results.metrics,
    };
    for (const rung of rungsFor(failing)) {
      signal?.throwIfAborted();
      const { name } = rung;
      onRung?.(name);
      const onProgress: RemedyOptions['onProgress'] = (stage, ...of) =>
        options.onProgress?.(`${name}: ${stage}`, ...of);
      const work = path.join(folder, 'attempts', name);
      await mkdir(work, { recursive: true });
      const outcome = await rung.run({
        ...options,
        ...{ failing, base: base.plan, known: base.known, work, pipeline, shared, onProgress },
      });
      if (!outcome.made) {
        rungs.push({ rung: name, why: outcome.why, evaluated: undefined });
        await rm(pipeline, { recursive: true, force: true });
        // Some leave a report.
        await rmdir(work).catch(() => {});
        continue;
      }
      const plan = path.join(work, 'plan.json');
      await copyFile(planPathOf(pipeline), plan);
      const judged = await evaluateInto(
        work,
        {
          ...measured,
          ...{ reference, quantized: pipeline, shared, signal },
          weights: (await exists(path.join(work, WEIGHTS_NAME))) ? path.join(work, WEIGHTS_NAME) : undefined,
          onProgress: ({ stage, done, total }) => onProgress(stage, done, total),
        },
        rules,
        {
          placed: ({ passed }) =>
            passed ? path.join(output, 'pipeline') : path.join(output, 'attempts', name, 'plan.json'),
        },
      );
      const { results, verdict } = judged;
      rungs.push({ rung: name, why: undefined, evaluated: evaluatedRung(judged) });
      if (verdict.passed) {
        await settle(pipeline, quantized);
        await liftAttempt(work, folder);
        return { rungs, passed: name, base: base.lasting };
      }
      // What later rungs go on from: rungs that change precisions or weights are no base for them.
      if (name === 'smooth' && sqnrOf(results.metrics) > sqnrOf(base.known)) {
        base = { plan, lasting: path.join(output, 'attempts', name, 'plan.json'), known: results.metrics };
      }
      await rm(pipeline, { recursive: true });
    }
    return { rungs, passed: undefined, base: base.lasting };
  });
}

export function evaluatedRung({ results: { quantized, metrics }, verdict }: Judged): EvaluatedRung {
  return { bytes: quantized.transformerBytes, metrics, verdict };
}

/** What rungs go on from. */
interface Base {
  readonly plan: string;
  /** Where the plan will lie when all is done. */
  readonly lasting: string;
  readonly known: Readonly<Record<string, Metric>> | undefined;
}

function sqnrOf(metrics: Base['known']): number {
  return metrics?.sqnr?.value ?? Number.NEGATIVE_INFINITY;
}

/** Entries of a pipeline folder that are no links. */
async function ownEntries(pipeline: string): Promise<string[]> {
  const entries = await readdir(pipeline, { withFileTypes: true });
  return entries.flatMap((entry) => (entry.isSymbolicLink() ? [] : [entry.name]));
}

/** Makes copies of links to what the quantized pipeline has itself; what is a link there stays one, to the same end. */
async function settle(pipeline: string, quantized: string): Promise<void> {
  const own = await ownEntries(quantized);
  for (const name of await readdir(pipeline)) {
    const entry = path.join(pipeline, name);
    if (!(await lstat(entry)).isSymbolicLink()) continue;
    const end = await realpath(entry);
    await rm(entry);
    if (own.includes(name)) await copyTree(end, entry, false);
    else await symlink(end, entry);
  }
}

/** Moves what stays of the attempt that passed to the top. */
async function liftAttempt(work: string, folder: string): Promise<void> {
  for (const name of await readdir(work)) await rename(path.join(work, name), path.join(folder, name));
  await rmdir(work);
  // Attempts before it stay.
  await rmdir(path.dirname(work)).catch(() => {});
}
