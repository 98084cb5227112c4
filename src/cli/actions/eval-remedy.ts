import { existsSync } from 'node:fs';
import path from 'node:path';
import { printable, WanqError } from '../../errors.js';
import type { SharedReference } from '../../evaluate/shared-reference.js';
import { type AdviceOptions, commandsOf } from '../../remedy/advice.js';
import type { Judged } from '../../remedy/evaluation.js';
import type { FailingModel } from '../../remedy/failing.js';
import { evaluatedRung, type RemedyOptions, type RemedySummary, remedy } from '../../remedy/ladder.js';
import { unmeasuredMetrics } from '../../remedy/verdict.js';
import type { Context } from '../context.js';
import { searchBounds } from '../searching-options.js';
import { startProgress } from '../ui/progress.js';
import { remedyTable } from '../ui/remedy.js';

/** Options of `eval` that {@link remedyOptions} declares, as they are parsed. */
export interface RemedyFlags {
  readonly remedy?: string;
  readonly calibration?: string;
  readonly checkpoint?: string;
  readonly calibrationPrompts?: string;
  readonly samples?: number;
  readonly evaluations: number;
  readonly budget?: number;
  /** Percent. */
  readonly giveBack: number;
}

/**
 * What `--remedy` asks for; undefined without it.
 * @param output report folder of the evaluation
 * @throws WanqError USAGE where something is missing, or one output lies in the other
 */
export function remedyRequest(
  { io, signal }: Context,
  { remedy: output, calibration, samples, budget, giveBack, ...others }: RemedyFlags,
  evaluation: Pick<RemedyOptions, 'reference' | 'quantized' | 'rules' | 'measured'> & { readonly output: string },
): RemedyOptions | undefined {
  if (output === undefined) return undefined;
  if (calibration === undefined) {
    throw new WanqError('USAGE', '--remedy needs --calibration', {
      hint: 'give the calibration file that the model was quantized with',
    });
  }
  if (`${path.resolve(evaluation.output)}${path.sep}`.startsWith(`${path.resolve(output)}${path.sep}`)) {
    throw new WanqError('USAGE', `--output ${printable(evaluation.output)} lies in the folder of --remedy`, {
      hint: 'name another folder for either',
    });
  }
  const { reference, quantized, rules, measured } = evaluation;
  const { evaluations, checkpoint, calibrationPrompts } = others;
  return {
    ...{
      reference,
      quantized,
      rules,
      measured,
      calibration,
      output,
      evaluations,
      checkpoint,
      calibrationPrompts,
      signal,
    },
    ...searchBounds({ samples, budget }),
    giveBack: giveBack / 100,
    cache: `${output}.cache`,
    python: io.env.PYTHON ?? 'python3',
  };
}

/**
 * Tries what may mend a pipeline, and prints what came of it.
 * @returns undefined where there was nothing to try: the gate passed, or no remedy could pass it
 */
export async function mend(
  context: Context,
  options: RemedyOptions,
  failing: FailingModel,
  judged: Judged,
  shared: SharedReference,
  advising: AdviceOptions,
): Promise<RemedySummary | undefined> {
  const { output, cache } = options;
  if (judged.verdict.passed) {
    context.say(`nothing to remedy: ${output} is not made`);
    return undefined;
  }
  if (unmeasuredMetrics(judged.verdict).length > 0) {
    context.say(`nothing was tried: ${output} is not made`);
    return undefined;
  }
  let progress = startProgress(context, 'remedies');
  const summary = await remedy(
    {
      ...options,
      onRung: (name) => {
        progress.stop();
        context.say(`trying ${name}`);
        progress = startProgress(context, name);
      },
      onProgress: (stage, done, total) => progress.update(done === undefined ? stage : `${stage}: ${done}/${total}`),
    },
    failing,
    judged,
    shared,
  )
    .catch((error) => {
      if (existsSync(cache))
        context.say(`${cache} keeps what the search measured: the same command with another -o goes on from there`);
      throw error;
    })
    .finally(() => progress.stop());
  if (!context.json) printSummary(context, options, advising, failing, judged, summary);
  return summary;
}

function printSummary(
  context: Context,
  { output }: RemedyOptions,
  advising: AdviceOptions,
  failing: FailingModel,
  judged: Judged,
  { rungs, passed, base }: RemedySummary,
): void {
  const tried = rungs.map(({ rung, why, evaluated }) => ({ name: rung, why, evaluated }));
  context.print(remedyTable([{ name: 'as it is', evaluated: evaluatedRung(judged) }, ...tried]));
  if (passed) {
    context.print(`${output}: ${passed} passes; pipeline, plan.json, report.md`);
    return;
  }
  // What it would have taken is there to be run by hand.
  if (rungs.some(({ rung, evaluated }) => rung === 'qat' && !evaluated)) {
    const changed = judged.results.components?.changed.map(({ component }) => component) ?? [];
    const lines = commandsOf('qat', advising, failing, { base, changed });
    for (const line of lines) context.print(`   $ ${printable(line, 4000)}`);
  }
  context.print(`gate failed: no remedy that was tried passes; ${output} has their plans and reports`);
}
