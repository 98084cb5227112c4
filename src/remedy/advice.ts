import path from 'node:path';
import { WanqError } from '../errors.js';
import type { Verdict } from '../gate/judge.js';
import { writePlan } from '../quantize/plan-file.js';
import type { Advice } from '../report/ladder.js';
import { type FailingModel, planPathOf, readFailing } from './failing.js';
import type { CommandContext, RungName, RungSettings } from './rung.js';
import { rungsFor } from './rungs.js';
import { isMendable, unmeasuredMetrics } from './verdict.js';

/** The user's own paths and options, for the commands. */
export interface AdviceOptions extends RungSettings {
  readonly reference: string;
  readonly quantized: string;
  /** Absent: a placeholder stands for it. */
  readonly calibration?: string | undefined;
  /** Report folder of the evaluation, where it will lie; the plans of rungs come to lie in `plans`. */
  readonly report: string;
  /** Options of `wanq eval` and `wanq search` that say how pipelines are measured. */
  readonly measuring: readonly string[];
  /** Further options of `wanq eval`. */
  readonly evaluating: readonly string[];
  readonly negativePrompt: string;
  /** Rules file of the gate; absent: the default rules. */
  readonly rules?: string | undefined;
}

/** What is said of a model whose plan is not known. */
const GENERAL =
  'In general, in this order: ranges and smoothing chosen by what errs least (--method auto --smooth auto); linears given back (`wanq search`, or --keep ' +
  '"*.ffn.down" "blocks.{0,-1}.*"); weights alone in INT8 (precision int8-weights in a plan file); weights fine-tuned for the plan (python/qat.py).';

/**
 * What may be done about a quantized pipeline that failed the gate.
 *
 * @param folder the report folder while it is being filled; the plans that commands name are written into it
 * @param changed components beside the transformer that the quantized pipeline has in another form
 */
export async function adviseOn(
  options: AdviceOptions,
  verdict: Verdict,
  { folder, model, changed }: { folder: string; model: string; changed: readonly string[] },
): Promise<Advice> {
  const notes = unmeasuredMetrics(verdict).map(
    (metric) => `${metric} was not measured, which no remedy changes: give what it needs, or rules without it.`,
  );
  if (!isMendable(verdict)) return { notes, rungs: [], command: undefined };
  const failing = await known(options, model);
  if (typeof failing === 'string') {
    return {
      notes: [...notes, `${failing}. What may mend it is not known. ${GENERAL}`],
      rungs: [],
      command: undefined,
    };
  }
  if (failing.trained) notes.push('Its weights were fine-tuned; what follows starts from those of the reference.');
  const rungs = rungsFor(failing);
  for (const { name, plan } of rungs) {
    if (plan) await writePlan(path.join(folder, 'plans', `${name}.json`), plan(failing.plan));
  }
  const context = contextOf(options, failing, changed);
  return {
    notes,
    rungs: rungs.map((rung) => ({
      name: rung.name,
      does: rung.does(options),
      costs: rung.costs,
      commands: rung.commands(context).map(commandLine),
    })),
    command: commandLine(remedyCommand(options, context)),
  };
}

/** Commands of a rung that was not run, from the plan that the rungs before it left. */
export function commandsOf(
  name: RungName,
  options: AdviceOptions,
  failing: FailingModel,
  { base, changed }: { base: string; changed: readonly string[] },
): string[] {
  const context = { ...contextOf(options, failing, changed), base };
  const rungs = rungsFor(failing).filter((rung) => rung.name === name);
  return rungs.flatMap((rung) => rung.commands(context).map(commandLine));
}

/** The failing model, or why its plan says nothing. */
async function known({ reference, quantized }: AdviceOptions, model: string): Promise<FailingModel | string> {
  try {
    const failing = await readFailing(reference, quantized);
    if (failing.plan.model === null || failing.plan.model === model) return failing;
    return `${planPathOf(quantized)} is of another model than ${reference}`;
  } catch (error) {
    if (error instanceof WanqError) return error.message;
    throw error;
  }
}

function contextOf(options: AdviceOptions, failing: FailingModel, changed: readonly string[]): CommandContext {
  const { quantized, calibration = 'CALIBRATION', report, measuring, rules } = options;
  const stem = path.join(path.dirname(quantized), path.basename(quantized));
  const fits = rungsFor(failing).some(({ name }) => name === 'smooth');
  return {
    ...options,
    failing,
    calibration,
    plans: path.join(report, 'plans'),
    base: fits ? planPathOf(`${stem}-smooth`) : failing.planPath,
    stem,
    searching: [...measuring, ...(rules === undefined ? [] : ['--rules', rules])],
    components: [
      ...(changed.includes('text_encoder') ? ['--text-encoder', 'w8'] : []),
      ...(changed.some((name) => name.startsWith('vae')) ? ['--vae', 'fp16'] : []),
    ],
  };
}

function remedyCommand(options: AdviceOptions, { calibration, stem }: CommandContext): string[] {
  const { reference, quantized, measuring, evaluating, report, rules } = options;
  return [
    ...['wanq', 'eval', reference, quantized, ...measuring, ...evaluating, '-o', `${report}-again`],
    ...[
      '--gate',
      ...(rules === undefined ? [] : [rules]),
      '--remedy',
      `${stem}-remedied`,
      '--calibration',
      calibration,
    ],
  ];
}

/** One line for a POSIX shell. */
export function commandLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}
