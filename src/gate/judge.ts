import { distance } from 'fastest-levenshtein';
import type { Rule } from './rules.js';

/** What the gate needs to know of a measured number. */
export interface JudgedMetric {
  readonly value: number | null;
  readonly unit: string;
  readonly note?: string | undefined;
}

export interface Check {
  readonly rule: Rule;
  readonly value: number | null;
  readonly passed: boolean;
  /** One line: metric, value, limit, and for a failure why. */
  readonly message: string;
}

export interface Verdict {
  /** Whether every rule of level `error` holds. */
  readonly passed: boolean;
  readonly checks: readonly Check[];
}

/** Holds metrics against rules. A metric that is missing or not a number fails: an unmeasured quality is no quality. */
export function judge(metrics: Readonly<Record<string, JudgedMetric>>, rules: readonly Rule[]): Verdict {
  const checks = rules.filter(({ level }) => level !== 'off').map((rule) => check(rule, metrics));
  const passed = checks.length > 0 && checks.every((result) => result.passed || result.rule.level === 'warn');
  return { passed, checks };
}

function check(rule: Rule, metrics: Readonly<Record<string, JudgedMetric>>): Check {
  const limit = `${rule.operator} ${rule.limit}`;
  const metric = Object.hasOwn(metrics, rule.metric) ? metrics[rule.metric] : undefined;
  if (!metric) {
    const [nearest] = Object.keys(metrics).sort((a, b) => distance(rule.metric, a) - distance(rule.metric, b));
    const hint = nearest === undefined ? '' : `; the nearest metric is ${nearest}`;
    return { rule, value: null, passed: false, message: `${rule.metric} is missing (wanted ${limit})${hint}` };
  }
  const { value, unit, note } = metric;
  if (value === null || !isUsable(value, rule.operator)) {
    const why = note ?? (value === null ? 'not measured' : `it is ${value}`);
    return { rule, value, passed: false, message: `${rule.metric} has no usable value (wanted ${limit}): ${why}` };
  }
  const passed = compare(value, rule.operator, rule.limit);
  const figure = Number.isFinite(value) ? value.toFixed(3) : String(value);
  const shown = `${rule.metric} = ${figure}${unit === '' ? '' : ` ${unit}`}`;
  return { rule, value, passed, message: `${shown}, wanted ${limit}` };
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
