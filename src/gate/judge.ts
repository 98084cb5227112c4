import { distance } from 'fastest-levenshtein';
import type { BaselineComparison } from './compare.js';
import { figure } from './figure.js';
import { type Aggregation, aggregationOf, type Rule } from './rules.js';
import type { JudgedMetric } from './subject.js';

export type { JudgedMetric } from './subject.js';

export interface Check {
  readonly rule: Rule;
  /** The figure that was held; null where there is none, which no better model changes. */
  readonly value: number | null;
  readonly passed: boolean;
  /** One line: metric, value, limit, and for a failure why. */
  readonly message: string;
}

export interface Verdict {
  /** Whether every rule of level `error` holds, nothing else is amiss, and nothing got worse than a baseline. */
  readonly passed: boolean;
  readonly checks: readonly Check[];
  /** What fails the gate without being a rule's. */
  readonly problems?: readonly string[];
  /** Where the results were held against a baseline. */
  readonly baseline?: BaselineComparison;
}

/**
 * Holds metrics against rules. A metric that is missing or not a number fails: an unmeasured quality is no quality.
 * @param prompts that the metrics were taken over, where that is known
 */
export function judge(
  metrics: Readonly<Record<string, JudgedMetric>>,
  rules: readonly Rule[],
  { prompts }: { readonly prompts?: number } = {},
): Verdict {
  const checks = rules.filter(({ level }) => level !== 'off').map((rule) => check(rule, metrics, prompts));
  const problems = [
    ...(checks.length === 0 ? ['no rule is on, and a gate that checks nothing does not pass'] : []),
    ...(prompts === 0 ? ['the results are of no prompts'] : []),
  ];
  const held = checks.every((result) => result.passed || result.rule.level === 'warn');
  return { passed: problems.length === 0 && held, checks, problems };
}

/** The verdict with what came of the baseline. */
export function withBaseline(verdict: Verdict, baseline: BaselineComparison): Verdict {
  return { ...verdict, passed: verdict.passed && baseline.passed, baseline };
}

function check(rule: Rule, metrics: Readonly<Record<string, JudgedMetric>>, prompts: number | undefined): Check {
  const limit = `${rule.operator} ${rule.limit}`;
  const metric = Object.hasOwn(metrics, rule.metric) ? metrics[rule.metric] : undefined;
  if (!metric) {
    const [nearest] = Object.keys(metrics).sort((a, b) => distance(rule.metric, a) - distance(rule.metric, b));
    const hint = nearest === undefined ? '' : `; the nearest metric is ${nearest}`;
    return { rule, value: null, passed: false, message: `${rule.metric} is missing (wanted ${limit})${hint}` };
  }
  const name = NAMES[aggregationOf(rule)](rule.metric, metric);
  const found = figureOf(rule, metric, prompts);
  if (typeof found !== 'number') {
    const message = `${name} has no usable value (wanted ${limit}): ${found.why}`;
    return { rule, value: found.value, passed: false, message };
  }
  const passed = compare(found, rule.operator, rule.limit);
  // Rounding must not hide what decided.
  const short = figure(found);
  const shown = compare(Number(short), rule.operator, rule.limit) === passed ? short : String(found);
  return {
    rule,
    value: found,
    passed,
    message: `${name} = ${shown}${metric.unit === '' ? '' : ` ${metric.unit}`}, wanted ${limit}`,
  };
}

const NAMES: Readonly<Record<Aggregation, (metric: string, of: JudgedMetric) => string>> = {
  mean: (metric) => metric,
  median: (metric) => `median of ${metric}`,
  worst: (metric) => `worst of ${metric}`,
  'lower-bound': (metric, of) => `lower bound of ${metric}${levelOf(of)}`,
  'upper-bound': (metric, of) => `upper bound of ${metric}${levelOf(of)}`,
};

function levelOf({ interval }: JudgedMetric): string {
  return interval ? ` (${Number((100 * interval.level).toFixed(2))} %)` : '';
}

/** A figure that a rule can hold, or why there is none; `value` is what there is instead. */
function figureOf(
  rule: Rule,
  metric: JudgedMetric,
  prompts: number | undefined,
): number | { readonly value: number | null; readonly why: string } {
  const { value, n, note } = metric;
  const none = (why: string) => ({ value: null, why });
  if (value === null) return none(note ?? 'not measured');
  // A sample that is not a number is no better for not being the median.
  if (Number.isNaN(value)) return { value, why: note ?? 'it is NaN' };
  if (n === 0) return none(note ?? 'it was taken over no samples');
  if (rule.minSamples !== undefined && !(n !== undefined && n >= rule.minSamples)) {
    return none(`it was taken over ${n ?? 'an unknown number of'} samples, and ${rule.minSamples} are wanted`);
  }
  const found = aggregated(aggregationOf(rule), metric, prompts);
  if (typeof found === 'string') return none(found);
  return isUsable(found, rule.operator) ? found : { value: found, why: note ?? `it is ${found}` };
}

/** @returns the figure, or why the metric has none */
function aggregated(aggregation: Aggregation, metric: JudgedMetric, prompts: number | undefined): number | string {
  const { value, median, worst, interval } = metric;
  switch (aggregation) {
    case 'mean':
      return value ?? 'not measured';
    case 'median':
      return median ?? 'the metric has no median';
    case 'worst':
      return worst ?? 'the metric has no worst sample';
    case 'lower-bound':
    case 'upper-bound':
      if ((interval?.units ?? prompts) === 1) return 'one prompt gives no interval';
      return (aggregation === 'lower-bound' ? interval?.low : interval?.high) ?? 'the metric has no interval';
  }
}

/** Infinity is a value only where it means perfection: the PSNR of identical videos under a lower bound. */
function isUsable(value: number, operator: Rule['operator']): boolean {
  return Number.isFinite(value) || (value === Number.POSITIVE_INFINITY && operator.startsWith('>'));
}

function compare(value: number, operator: Rule['operator'], limit: number): boolean {
  switch (operator) {
    case '<':
      return value < limit;
    case '<=':
      return value <= limit;
    case '>':
      return value > limit;
    case '>=':
      return value >= limit;
  }
}
