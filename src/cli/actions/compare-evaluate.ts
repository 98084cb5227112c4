import { readdir, realpath, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { COMPARISON_FILES, uniqueNames } from '../../compare/names.js';
import { printable, WanqError } from '../../errors.js';
import type { EvaluateOptions } from '../../evaluate/options.js';
import { SharedReference } from '../../evaluate/shared-reference.js';
import type { Rule } from '../../gate/rules.js';
import { fingerprints } from '../../pipeline/fingerprints.js';
import { PipelineFolder } from '../../pipeline/layout.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { evaluateInto } from '../../remedy/evaluation.js';
import { assertWritable, exists, writeFolderAtomic } from '../../util/files.js';
import { contentHash, sha256 } from '../../util/hash.js';
import { readJson } from '../../util/json.js';
import { VERSION } from '../../version.js';
import { argumentsOf } from '../arguments.js';
import { comparedOptions } from '../comparing-options.js';
import type { Context } from '../context.js';
import { startProgress } from '../ui/progress.js';

export type EvaluatingFlags = Omit<
  EvaluateOptions,
  'quantized' | 'prompts' | 'sensitivities' | 'shared' | 'journal' | 'signal' | `on${string}`
> & {
  readonly prompts?: string;
  readonly output?: string;
  /** Preset or file, as given. */
  readonly rules?: string;
};

/** What a report of the folder was made of, beside it: only such a report is taken for finished. */
const SETTINGS_FILE = 'compare-settings.json';

const settingsSchema = z.record(z.string(), z.unknown());

type Settings = Readonly<Record<string, unknown>>;

/** A quantized pipeline and the folder of its report. */
interface Subject {
  readonly quantized: string;
  readonly folder: string;
  readonly settings: Settings;
}

/**
 * Evaluates quantized pipelines one after the other, the reference once for all, each into a folder of its own below the output. Every report is
 * there complete or not at all, and stays whatever happens to the next: the same command goes on after those that are there.
 *
 * @returns folders of the reports
 * @throws WanqError USAGE; OUTPUT_EXISTS where the output holds anything else; and as evaluating does
 */
export async function evaluateAll(
  context: Context,
  pipelines: readonly string[],
  flags: EvaluatingFlags,
  rules: readonly Rule[],
): Promise<string[]> {
  const { prompts: file, output } = flags;
  if (file === undefined || output === undefined || output.trim() === '') {
    throw new WanqError('USAGE', `--reference needs ${file === undefined ? '--prompts' : '--output'}`, {
      hint: 'give what the pipelines are evaluated on, and a folder for their reports',
    });
  }
  const prompts = await readPrompts(file);
  const subjects = await subjectsOf(pipelines, output, await settingsOf(flags, prompts, rules));
  const finished = await finishedOf(output, subjects);
  const open = subjects.filter((subject) => !finished.includes(subject));
  if (open.length > 0) await assertWritable(open[0]?.folder as string);
  for (const { folder } of finished) context.say(`${printable(folder)} is there: not evaluated again`);
  const shared = await SharedReference.open();
  try {
    for (const subject of open) await evaluateOne(context, subject, { flags, prompts, shared, rules });
  } catch (error) {
    const there = await Promise.all(subjects.map(({ folder }) => exists(folder)));
    if (there.includes(true)) {
      context.say(`${printable(output)} keeps the reports that are finished: the same command goes on from there`);
    }
    throw error;
  } finally {
    await shared.close();
  }
  return subjects.map(({ folder }) => folder);
}

interface Evaluating {
  readonly flags: EvaluatingFlags;
  readonly prompts: readonly string[];
  readonly shared: SharedReference;
  readonly rules: readonly Rule[];
}

async function evaluateOne(
  context: Context,
  { quantized, folder, settings }: Subject,
  { flags, prompts, shared, rules }: Evaluating,
): Promise<void> {
  const name = printable(path.basename(folder), 60);
  const progress = startProgress(context, `${name}: loading the pipelines`);
  const { output: _, rules: gate, ...options } = flags;
  const again = [...argumentsOf(comparedOptions(), flags), ...(gate === undefined ? [] : ['--gate', gate])];
  await writeFolderAtomic(folder, async (target) => {
    await evaluateInto(
      target,
      {
        ...options,
        ...{ quantized, prompts, shared, signal: context.signal },
        onProgress: ({ stage, done, total }) => progress.update(`${name}: ${stage}: ${done}/${total}`),
      },
      rules,
      { command: ['wanq', 'eval', flags.reference, quantized, ...again, '-o', folder] },
    );
    await writeFile(path.join(target, SETTINGS_FILE), `${JSON.stringify(settings, null, 2)}\n`);
  }).finally(() => progress.stop());
}

/** @throws WanqError USAGE where one pipeline, or one model, comes twice */
async function subjectsOf(pipelines: readonly string[], output: string, settings: Settings): Promise<Subject[]> {
  const names = uniqueNames(
    pipelines,
    pipelines.map((of) => path.resolve(of)),
  );
  const known = new Map<string, string>();
  const subjects: Subject[] = [];
  for (const [i, quantized] of pipelines.entries()) {
    const folder = await PipelineFolder.open(quantized);
    const models = await fingerprints(folder);
    for (const key of [await realpath(quantized), JSON.stringify(models)]) {
      const twin = known.get(key);
      if (twin !== undefined) {
        const both = twin === quantized ? printable(twin) : `${printable(twin)} and ${printable(quantized)}`;
        throw new WanqError('USAGE', `${both}: the same model is named twice`, { hint: 'name each model once' });
      }
      known.set(key, quantized);
    }
    subjects.push({ quantized, folder: path.join(output, names[i] as string), settings: { ...settings, models } });
  }
  return subjects;
}

/** Everything that a report depends on beside the quantized model: all options but the output, with what lies behind paths. */
async function settingsOf(
  flags: EvaluatingFlags,
  prompts: readonly string[],
  rules: readonly Rule[],
): Promise<Settings> {
  const { output: _, reference, clips, features, perceptual, ...rest } = flags;
  const hashOf = (target: string | undefined) => (target === undefined ? null : contentHash(target));
  return {
    ...rest,
    wanq: VERSION,
    reference: await fingerprints(await PipelineFolder.open(reference)),
    prompts: sha256(prompts.join('\n')),
    clips: await hashOf(clips),
    features: await hashOf(features),
    perceptual: await hashOf(perceptual),
    rules: rules.map(({ line: _line, ...rule }) => rule),
  };
}

/** Folders of reports that are being written, or were when wanq was killed. */
const UNFINISHED = /^\..+\.(tmp|lock)$/;

/**
 * Subjects whose reports are in the output already.
 * @throws WanqError OUTPUT_EXISTS where it holds a finished comparison, reports of other settings, or anything else
 */
async function finishedOf(output: string, subjects: readonly Subject[]): Promise<Subject[]> {
  if (!(await exists(output))) return [];
  const refuse = (why: string): never => {
    throw new WanqError('OUTPUT_EXISTS', `${printable(output)} ${why}`, { hint: 'name another output' });
  };
  const entries = await readdir(output).catch(() => refuse('is there, and is no folder'));
  if (entries.includes(COMPARISON_FILES.json)) return refuse('holds a finished comparison; wanq never overwrites');
  const ours: readonly string[] = [
    ...subjects.map(({ folder }) => path.basename(folder)),
    ...Object.values(COMPARISON_FILES),
  ];
  const other = entries.find((entry) => !ours.includes(entry) && !UNFINISHED.test(entry));
  if (other !== undefined) return refuse(`holds ${printable(other, 80)}, which is not of this comparison`);
  const there = subjects.filter(({ folder }) => entries.includes(path.basename(folder)));
  for (const { folder, settings } of there) {
    const file = path.join(folder, SETTINGS_FILE);
    const name = printable(path.basename(folder), 80);
    if (!(await exists(file))) return refuse(`holds ${name}, which is not of this comparison`);
    const before = await readJson(file, settingsSchema, 'RESULTS_INVALID');
    const keys = [...new Set([...Object.keys(settings), ...Object.keys(before)])];
    const changed = keys.filter((key) => JSON.stringify(settings[key]) !== JSON.stringify(before[key]));
    if (changed.length > 0) return refuse(`holds ${name}, evaluated with other ${printable(changed.join(', '))}`);
  }
  return there;
}
