import path from 'node:path';
import { findProducts } from '../analyze/leftovers.js';
import { openClips } from '../evaluate/clips/index.js';
import type { EvaluateOptions } from '../evaluate/options.js';
import { SharedReference } from '../evaluate/shared-reference.js';
import type { Rule } from '../gate/rules.js';
import { branchesAt } from '../pipeline/denoise.js';
import { describePipeline, type PipelineShape } from '../pipeline/open.js';
import { TextEncoder } from '../pipeline/text-encoder.js';
import { type PlanFile, writePlan } from '../quantize/plan-file.js';
import type { Metric } from '../report/results.js';
import { assertWritable, refuseExisting, withOutput } from '../util/files.js';
import { contentHash, sha256 } from '../util/hash.js';
import { Evaluations } from './evaluations.js';
import { planWithout } from './plan-of.js';
import { measureSubject, type SensitivityBudget, type SensitivityPlan, unitsOf } from './sensitivity.js';
import { readFinishedSensitivity, type Sensitivity } from './sensitivity-file.js';
import { findSmallestPlan } from './smallest-plan.js';
import { identityOf, kindOf, openSubject, type Subject, type SubjectOptions } from './subject.js';
import { type Trial, Trials, unjudged } from './trials.js';

type Measuring = Omit<EvaluateOptions, 'reference' | 'quantized' | 'noiseFloor' | 'onProgress' | 'onVideo'>;

export interface SearchOptions extends SubjectOptions, Measuring {
  readonly rules: readonly Rule[];
  /** Sensitivity file of the same plan; absent: it is measured, and kept in the cache. */
  readonly sensitivity?: string | undefined;
  /** For measuring sensitivity. */
  readonly sensitivityBudget: SensitivityBudget;
  /** Evaluations at most, those in the cache left out. */
  readonly evaluations: number;
  /** Metrics of the whole plan, where the same evaluation was made of it before. */
  readonly known?: Readonly<Record<string, Metric>> | undefined;
  /** Share of the saved bytes that may be given back at most, in [0, 1]; absent: all of them. */
  readonly giveBack?: number | undefined;
  /** Time for all of this run; no evaluation is begun that would not end in it. Absent: no limit. */
  readonly budgetMs?: number | undefined;
  /** Folder that keeps sensitivity and evaluations, so that an interrupted search goes on and a later one takes them over. */
  readonly cache: string;
  /** Plan file to write; it must not exist. */
  readonly output: string;
  /** Called before anything is measured. */
  readonly onPlan?: ((plan: SearchPlan) => void) | undefined;
  readonly onSensitivityPlan?: ((plan: SensitivityPlan) => void) | undefined;
  readonly onProgress?: ((stage: string, done: number, total: number) => void) | undefined;
  readonly onTrial?: ((trial: Trial) => void) | undefined;
}

/** What a search will do at most. */
export interface SearchPlan {
  readonly linears: number;
  readonly evaluations: number;
  /** Forwards of the quantized model in one evaluation; the first runs the reference too. */
  readonly forwards: number;
  /** Videos that an evaluation decodes. */
  readonly videos: number;
}

export interface SearchSummary {
  /** The smallest plan that passes; undefined where none does. */
  readonly chosen: Trial | undefined;
  readonly plan: PlanFile | undefined;
  /** In the order in which they were tried. */
  readonly trials: readonly Trial[];
  readonly sensitivity: Sensitivity;
  /** Whether the search ended by itself, and not for want of evaluations or time. */
  readonly complete: boolean;
}

/**
 * Searches the smallest plan that passes the gate. Every plan that is tried is quantized and evaluated as it would be for use.
 *
 * @throws WanqError as `quantize`, `evaluate` and `measureSensitivity`; LOCKED
 */
export async function search(options: SearchOptions): Promise<SearchSummary> {
  await refuseExisting(options.output);
  await assertWritable(options.output);
  const unmeasured = options.rules.find(({ metric, level }) => level === 'error' && metric.startsWith('fvd_'));
  if (unmeasured && options.features === undefined) throw unjudged(unmeasured.metric, 'it needs a feature network');
  return withOutput(options.output, () => withOutput(options.cache, () => searchOver(options)));
}

async function searchOver(options: SearchOptions): Promise<SearchSummary> {
  const started = performance.now();
  const subject = await openSubject(options);
  const shared = options.shared ?? (await SharedReference.open());
  try {
    const shape = await describePipeline(subject.folder, options);
    const textTokens = (await TextEncoder.open(subject.folder)).length;
    // Before switches are put on them.
    const { linears } = findProducts(subject.loaded.model.graph);
    options.onPlan?.(await searchPlan(subject, shape, options));
    const evaluations = await openEvaluations(subject, shape, options);
    if (options.known) await evaluations.set([], options.known);
    const sensitivity = await sensitivityOf(subject, options);
    const trials = new Trials(subject, options, {
      shared,
      shape,
      textTokens,
      linears,
      evaluations,
      sensitivity,
      started,
    });
    const { givenBack, complete } = await findSmallestPlan(
      problemOf(subject, sensitivity, options.giveBack),
      (members) => trials.judge(members),
    );
    const all = trials.made;
    if (!givenBack) return { chosen: undefined, plan: undefined, trials: all, sensitivity, complete };
    const chosen = trials.of(givenBack);
    const plan = planWithout(subject, givenBack);
    await writePlan(options.output, plan);
    return { chosen, plan, trials: all, sensitivity, complete };
  } finally {
    if (!options.shared) await shared.close();
    await subject.loaded.close();
  }
}

async function searchPlan(
  { candidates }: Subject,
  { video }: PipelineShape,
  options: SearchOptions,
): Promise<SearchPlan> {
  const { prompts, seedsPerPrompt, inspected, steps, guidance, sigmas, evaluations } = options;
  const takes = prompts.length * seedsPerPrompt;
  const looked = Math.min(inspected, takes);
  const source = options.clips === undefined ? undefined : await openClips(options.clips, video, options.signal);
  await source?.close();
  const clips = source?.count ?? looked;
  return {
    linears: candidates.length,
    evaluations,
    forwards: (takes + looked) * steps * branchesAt(guidance).length + clips * sigmas.length,
    videos: takes + clips * sigmas.length,
  };
}

async function openEvaluations(
  subject: Subject,
  { latents: { channels, frames, height, width } }: PipelineShape,
  options: SearchOptions,
): Promise<Evaluations> {
  const { prompts, negativePrompt, seedsPerPrompt, seed, steps, guidance, sigmas, inspected, device } = options;
  return Evaluations.open(options.cache, {
    ...identityOf(subject),
    ...{ prompts, negativePrompt, seedsPerPrompt, seed, steps, guidance, sigmas, inspected, device },
    shape: [channels, frames, height, width],
    deviceReference: options.deviceReference ?? null,
    deviceVae: options.deviceVae ?? null,
    clips: options.clips === undefined ? null : await contentHash(options.clips),
    features: options.features === undefined ? null : await contentHash(options.features),
    perceptual: options.perceptual === undefined ? null : await contentHash(options.perceptual),
  });
}

function sensitivityOf(subject: Subject, options: SearchOptions): Promise<Sensitivity> {
  if (options.sensitivity !== undefined) {
    return readFinishedSensitivity(options.sensitivity, identityOf(subject), unitsOf(subject));
  }
  const { prompts, negativePrompt, steps, guidance, seed, device, frames, height, width, signal } = options;
  const measured = { prompts, negativePrompt, steps, guidance, seed, device, frames, height, width };
  const budget = options.sensitivityBudget;
  const settings = [identityOf(subject), measured, 'samples' in budget ? budget.samples : null];
  return measureSubject(subject, {
    ...measured,
    signal,
    budget,
    output: path.join(options.cache, `sensitivity-${sha256(JSON.stringify(settings)).slice(0, 12)}.json`),
    onPlan: options.onSensitivityPlan,
    onProgress: (done, total) => options.onProgress?.('sensitivity', done, total),
  });
}

function problemOf(
  { candidates, groups }: Subject,
  { linears, groups: measured }: Sensitivity,
  giveBack: number | undefined,
): Parameters<typeof findSmallestPlan>[0] {
  const saved = candidates.reduce((sum, { bytesSaved }) => sum + bytesSaved, 0);
  return {
    bytesLimit: giveBack === undefined ? undefined : giveBack * saved,
    linears: candidates.map(({ key, bytesSaved }) => ({ damage: linears[key]?.damage ?? 0, bytes: bytesSaved })),
    groups: groups
      .filter(({ name }) => kindOf(name) === name)
      .map(({ name, members }) => ({ members, damage: measured[name]?.damage ?? 0 })),
  };
}
