import { printable } from '../../errors.js';
import { blameLines } from '../../gate/blame.js';
import type { Verdict } from '../../gate/judge.js';
import { baselineLine, gateLines } from '../../gate/lines.js';
import type { JudgedResults } from '../../gate/subject.js';
import { withoutCommands } from '../../report/annotations.js';

const MARKS = { ok: 'ok    ', warn: 'warn  ', failed: 'FAILED' } as const;

/**
 * One line for every check, where to look first, and the verdict last.
 * @param advice for a verdict that nothing else is said of
 * @param results of which a failed verdict names what is worst
 */
export function verdictText(
  verdict: Verdict,
  advice?: string,
  results?: Pick<JudgedResults, 'linears' | 'steps' | 'videos'>,
): string {
  const { passed, baseline } = verdict;
  const checks = gateLines(verdict).map(
    ({ kind, status, message }) => `${MARKS[status]} ${kind === 'baseline' ? 'baseline: ' : ''}${message}`,
  );
  const notes = [baselineLine(verdict), ...(baseline?.notes ?? []).map((note) => `note   ${note}`)];
  const lines = [...checks, ...notes.flatMap((line) => line ?? []), ...(passed || !results ? [] : blameLines(results))];
  return [
    ...lines.map((line) => withoutCommands(printable(line, 2000))),
    passed ? 'gate passed' : ['gate failed', advice].filter(Boolean).join(': '),
  ].join('\n');
}
