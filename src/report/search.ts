import { formatBytes, formatMetric } from './format.js';
import { paretoFront } from './front.js';
import { table } from './markdown.js';
import type { Metric } from './results.js';

/** A plan that a search evaluated. */
export interface TriedPlan {
  /** Names of linears that keep their precision. */
  readonly givenBack: readonly string[];
  /** Of all weights. */
  readonly bytes: number;
  readonly speedBound: number;
  /** dB. */
  readonly predictedSqnr: number;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly passed: boolean;
}

export interface SearchReport {
  /** In the order in which they were tried. */
  readonly plans: readonly TriedPlan[];
  /** The smallest that passes. */
  readonly chosen: TriedPlan | undefined;
  readonly linears: number;
  /** Whether the search ended by itself, and not for want of evaluations or time. */
  readonly complete: boolean;
}

export const SEARCH_HEAD = [
  'given back',
  'weights',
  'speed bound',
  'predicted SQNR',
  'SQNR',
  'PSNR drop',
  'FVD growth',
  'gate',
] as const;

const METRICS = ['sqnr', 'psnr_drop', 'fvd_growth'] as const;

/** Cells of every plan, smallest first; `*` stands behind the weights of those that none beats in both size and SQNR. */
export function searchRows({ plans, chosen, linears }: SearchReport): string[][] {
  const front = paretoFront(
    plans,
    ({ bytes }) => bytes,
    ({ metrics }) => metrics.sqnr?.value ?? Number.NEGATIVE_INFINITY,
  );
  return plans
    .toSorted((a, b) => a.bytes - b.bytes)
    .map((plan) => {
      const { givenBack, bytes, speedBound, predictedSqnr, metrics, passed } = plan;
      return [
        `${givenBack.length} of ${linears}`,
        `${formatBytes(bytes)}${front.includes(plan) ? ' *' : ''}`,
        `${speedBound.toFixed(2)}x`,
        Number.isFinite(predictedSqnr) ? `${predictedSqnr.toFixed(2)} dB` : '-',
        ...METRICS.map((name) => (metrics[name] ? formatMetric(metrics[name]) : '-')),
        `${passed ? 'passed' : 'failed'}${plan === chosen ? ', chosen' : ''}`,
      ];
    });
}

/** How far predictions of SQNR were off, dB; undefined where none can be held against a measurement. */
export function predictionError(plans: readonly TriedPlan[]): number | undefined {
  const errors = plans.flatMap(({ predictedSqnr, metrics }) => {
    const measured = metrics.sqnr?.value ?? Number.NaN;
    return Number.isFinite(measured - predictedSqnr) ? [Math.abs(measured - predictedSqnr)] : [];
  });
  return errors.length === 0 ? undefined : Math.max(...errors);
}

export function searchMarkdown(report: SearchReport): string {
  const { plans, chosen, complete } = report;
  const off = predictionError(plans);
  const lines = [
    '# Search for the smallest plan that passes',
    '',
    chosen ? `Chosen: ${chosen.givenBack.length} linears keep their precision.` : 'No plan passed.',
    ...(complete ? [] : ['', 'The search ended for want of evaluations or time: a smaller plan may pass.']),
    '',
    table(SEARCH_HEAD, searchRows(report)),
    '',
    '`*`: no plan that was tried is both smaller and better. Speed bound: the most a forward gains if INT8 products run twice as fast (Amdahl).',
    ...(off === undefined ? [] : ['', `Predicted SQNR was off by ${off.toFixed(2)} dB at most.`]),
    ...(chosen && chosen.givenBack.length > 0
      ? [
          '',
          '## Given back',
          '',
          table(
            ['linear'],
            chosen.givenBack.map((name) => [name]),
          ),
        ]
      : []),
    '',
  ];
  return lines.join('\n');
}
