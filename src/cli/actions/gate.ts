import { ExitCode, printable, WanqError } from '../../errors.js';
import { type BaselineFile, baselineOf, readBaseline, writeBaseline } from '../../gate/baseline.js';
import { type BaselineComparison, baselineChanges, compareBaseline } from '../../gate/compare.js';
import { judge, type Verdict, withBaseline } from '../../gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { figureText, type Results, readResults } from '../../report/results.js';
import { assertWritable, exists } from '../../util/files.js';
import type { Action } from '../command.js';
import type { Context } from '../context.js';
import { assertGateOutputs, type GateOutputFlags, writeGateOutputs } from '../gate-outputs.js';
import { verdictText } from '../ui/verdict.js';

/** Results alone do not say how the model was quantized. */
const ADVICE = '`wanq eval --gate` prints what may mend the model';

interface Flags extends GateOutputFlags {
  readonly update?: true;
  readonly force?: true;
}

export const run: Action = async (context, { positional, flags }) => {
  const [file] = positional as [string];
  const { rules: source, baseline: path, update, force } = flags as Flags;
  if (update && path === undefined) {
    throw new WanqError('USAGE', '--update needs --baseline', { hint: 'name the baseline to write' });
  }
  if (force && !update) throw new WanqError('USAGE', '--force is for --update', { hint: 'leave it out' });
  await assertGateOutputs(flags as Flags, [file]);
  if (update && path !== undefined) await assertWritable(path);
  const rules = source === undefined ? DEFAULT_RULES : await readRules(source);
  const before = path === undefined || (update && !(await exists(path))) ? undefined : await readBaseline(path);
  const results = await readResults(file);
  const ruled = judge(results.metrics, rules, { prompts: results.settings.prompts });
  const updated =
    update && path !== undefined
      ? await makeBaseline(path, { results, ruled, before, force: force ?? false })
      : undefined;
  const verdict = updated
    ? afterUpdate(updated, ruled, results)
    : before
      ? withBaseline(ruled, compareBaseline(before, results))
      : ruled;
  await writeGateOutputs(context, verdict, results, flags as Flags);
  if (context.json) {
    const written = updated && { written: updated.after !== undefined, changes: updated.changes };
    context.print(JSON.stringify({ ...verdict, update: written }, figureText, 2));
  } else {
    if (updated?.after) printUpdate(context, updated.after.file, updated.changes);
    context.print(verdictText(verdict, ADVICE, results));
  }
  return verdict.passed ? undefined : ExitCode.gateFailed;
};

interface Updated {
  /** Why nothing was written. */
  readonly refused?: string;
  readonly changes: readonly string[];
  /** What was written. */
  readonly after?: BaselineFile;
  /** What the verdict is with the baseline that was there. */
  readonly held: Verdict;
}

/** Writes the baseline, unless that would lower it without being asked to. */
async function makeBaseline(
  path: string,
  { results, ruled, before, force }: { results: Results; ruled: Verdict; before?: BaselineFile; force: boolean },
): Promise<Updated> {
  const held = before ? withBaseline(ruled, compareBaseline(before, results)) : ruled;
  const refuse = (refused: string): Updated => ({ refused, changes: [], held });
  if (!ruled.passed) return refuse('the rules fail');
  if (held.baseline && lowers(held.baseline) && !force) {
    return refuse('something got worse, or was measured otherwise, which --force takes');
  }
  const made = baselineOf(results, before?.baseline.tolerances ?? {});
  if ('refused' in made) return refuse(made.refused.join(', '));
  await writeBaseline(path, made);
  return { changes: baselineChanges(before?.baseline, made), after: await readBaseline(path), held };
}

/** Whether a new baseline would ask for less than the one that is there, as far as the two compare. */
function lowers({ problems, checks }: BaselineComparison): boolean {
  return problems.length > 0 || checks.some(({ passed, was }) => !passed && was !== null);
}

/** A baseline that was written on purpose is what the results are held against; one that was not fails. */
function afterUpdate({ refused, after, held }: Updated, ruled: Verdict, results: Results): Verdict {
  if (after) return withBaseline(ruled, compareBaseline(after, results));
  const problems = [...(held.problems ?? []), `the baseline was not written: ${refused}`];
  return { ...held, passed: false, problems };
}

function printUpdate({ print }: Context, path: string, changes: readonly string[]): void {
  for (const change of changes) print(`baseline: ${change}`);
  print(`${printable(path)}: written${changes.length === 0 ? ', no metric changed' : ''}`);
}
