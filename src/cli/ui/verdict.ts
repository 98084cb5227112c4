import type { Verdict } from '../../gate/judge.js';

/** One line for every rule, and the verdict last. */
export function verdictText({ passed, checks }: Verdict): string {
  const lines = checks.map(
    ({ passed: ok, rule, message }) => `${ok ? 'ok    ' : rule.level === 'warn' ? 'warn  ' : 'FAILED'} ${message}`,
  );
  const advice =
    'try `wanq quantize` with --keep "*.ffn.down" or --keep "blocks.{0,-1}.*", --scheme ffn, or another --method';
  return [...lines, passed ? 'gate passed' : `gate failed: ${advice}`].join('\n');
}
