import { ExitCode } from '../../errors.js';
import { judge } from '../../gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { readResults } from '../../report/results.js';
import type { Action } from '../command.js';
import { verdictText } from '../ui/verdict.js';

/** Results alone do not say how the model was quantized. */
const ADVICE = '`wanq eval --gate` prints what may mend the model';

export const run: Action = async (context, { positional, flags }) => {
  const [file] = positional as [string];
  const { rules: rulesFile } = flags as { rules?: string };
  const rules = rulesFile === undefined ? DEFAULT_RULES : await readRules(rulesFile);
  const verdict = judge((await readResults(file)).metrics, rules);
  context.print(context.json ? JSON.stringify(verdict, null, 2) : verdictText(verdict, ADVICE));
  return verdict.passed ? undefined : ExitCode.gateFailed;
};
