import { printable } from '../errors.js';
import type { Verdict } from './judge.js';
import { aggregationOf } from './rules.js';

/** One thing that was checked, for whoever prints verdicts. */
export interface GateLine {
  readonly kind: 'rule' | 'baseline';
  /** What was checked, short and without figures. */
  readonly name: string;
  readonly status: 'ok' | 'warn' | 'failed';
  readonly message: string;
  /** Of the rules file. */
  readonly line?: number | undefined;
}

/** Everything that was checked, in order: what no rule says, the rules, the baseline. */
export function gateLines({ checks, problems = [], baseline }: Verdict): GateLine[] {
  return [
    ...problems.map((message): GateLine => ({ kind: 'rule', name: 'gate', status: 'failed', message })),
    ...checks.map(({ rule, passed, message }): GateLine => {
      const aggregation = aggregationOf(rule);
      return {
        kind: 'rule',
        name: `${rule.metric}${aggregation === 'mean' ? '' : ` (${aggregation})`} ${rule.operator} ${rule.limit}`,
        status: passed ? 'ok' : rule.level === 'warn' ? 'warn' : 'failed',
        message,
        line: rule.line,
      };
    }),
    ...(baseline?.problems ?? []).map(
      (message): GateLine => ({ kind: 'baseline', name: 'comparable', status: 'failed', message }),
    ),
    ...(baseline?.checks ?? []).map(
      ({ metric, passed, message }): GateLine => ({
        kind: 'baseline',
        name: metric,
        status: passed ? 'ok' : 'failed',
        message,
      }),
    ),
  ];
}

/** The baseline that was taken, so that a reader sees whether it is the one they think. */
export function baselineLine({ baseline }: Verdict): string | undefined {
  return baseline && `baseline ${printable(baseline.file)} (SHA-256 ${baseline.digest.slice(0, 12)})`;
}
