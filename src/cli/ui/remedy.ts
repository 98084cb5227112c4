import type { EvaluatedRung } from '../../remedy/ladder.js';
import { formatBytes, formatMetric } from '../../report/format.js';
import { renderTable } from './table.js';

/** A model that was evaluated, or why there was none. */
export interface RemedyRow {
  readonly name: string;
  readonly why?: string | undefined;
  readonly evaluated?: EvaluatedRung | undefined;
}

/** The rungs that were tried: size, SQNR, and every metric of the gate. */
export function remedyTable(rows: readonly RemedyRow[]): string {
  const judged = rows.flatMap(({ evaluated }) => evaluated?.verdict.checks.map(({ rule }) => rule.metric) ?? []);
  const names = [...new Set(['sqnr', ...judged])];
  const cells = rows.map(({ name, why, evaluated }) => {
    if (!evaluated) return [name, '-', ...names.map(() => '-'), why ?? ''];
    const { bytes, metrics, verdict } = evaluated;
    const figures = names.map((metric) => (metrics[metric] ? formatMetric(metrics[metric]) : '-'));
    return [name, formatBytes(bytes), ...figures, verdict.passed ? 'passed' : 'failed'];
  });
  const numeric = Array.from({ length: names.length + 1 }, (_, i) => i + 1);
  return renderTable(['rung', 'transformer', ...names, 'gate'], cells, numeric);
}
