import type { Verdict } from '../../gate/judge.js';

/**
 * One line for every rule, and the verdict last.
 * @param advice for a verdict that nothing else is said of
 */
export function verdictText({ passed, checks }: Verdict, advice?: string): string {
  const lines = checks.map(
    ({ passed: ok, rule, message }) => `${ok ? 'ok    ' : rule.level === 'warn' ? 'warn  ' : 'FAILED'} ${message}`,
  );
  return [...lines, passed ? 'gate passed' : ['gate failed', advice].filter(Boolean).join(': ')].join('\n');
}
