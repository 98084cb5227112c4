import type { Check, Verdict } from '../gate/judge.js';

/** Metrics that fail the gate for want of a value: those of any model would. */
export function unmeasuredMetrics(verdict: Verdict): string[] {
  return failures(verdict).flatMap(({ rule, value }) => (value === null ? [rule.metric] : []));
}

/** Whether a better model could pass one of the rules that failed. */
export function isMendable(verdict: Verdict): boolean {
  return failures(verdict).some(({ value }) => value !== null);
}

function failures({ checks }: Verdict): Check[] {
  return checks.filter(({ passed, rule }) => !passed && rule.level === 'error');
}
