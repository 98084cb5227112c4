import { printable } from '../errors.js';
import {
  type Baseline,
  type BaselineFile,
  clipsOf,
  isComparable,
  measured,
  nameOf,
  settingsOf,
  toleranceOf,
} from './baseline.js';
import { dB, stepName, videoName } from './blame.js';
import { quantity } from './figure.js';
import type { JudgedResults } from './subject.js';
import { allowance, defaultTolerance, type Tolerance, toleranceText } from './tolerances.js';

/** A metric held against its baseline. */
export interface BaselineCheck {
  readonly metric: string;
  /** null where the baseline has none. */
  readonly was: number | null;
  /** null where it is missing or was not measured. */
  readonly is: number | null;
  readonly tolerance: Tolerance;
  readonly passed: boolean;
  /** One line: metric, was -> is, tolerance, and for a loss where it is largest. */
  readonly message: string;
}

/** What came of holding results against a baseline. */
export interface BaselineComparison {
  readonly file: string;
  /** SHA-256 of the file. */
  readonly digest: string;
  readonly passed: boolean;
  /** Why nothing was compared: other settings, another reference, nothing to compare. */
  readonly problems: readonly string[];
  /** Empty where there are problems. */
  readonly checks: readonly BaselineCheck[];
  /** Tolerances that are not the default, figures that got better by more, and metrics that it does not hold. */
  readonly notes: readonly string[];
}

/** Holds results against a baseline. Nothing is compared where the settings or the reference are others. */
export function compareBaseline({ file, digest, baseline }: BaselineFile, results: JudgedResults): BaselineComparison {
  const problems = incomparable(baseline, results);
  // A tolerance by hand asks for a comparison, which needs something to compare with.
  const names = new Set([...Object.keys(baseline.metrics), ...Object.keys(baseline.tolerances)]);
  const held = problems.length > 0 ? [] : [...names].flatMap((name) => compare(name, baseline, results));
  if (problems.length === 0 && held.length === 0) problems.push('the baseline has no metric to compare');
  return {
    file,
    digest,
    passed: problems.length === 0 && held.every(({ check }) => check.passed),
    problems,
    checks: held.map(({ check }) => check),
    notes: [...toleranceNotes(baseline), ...held.flatMap(({ note }) => note ?? []), ...newMetrics(baseline, results)],
  };
}

/** A line for each metric that another baseline has with another figure. */
export function baselineChanges(before: Baseline | undefined, after: Baseline): string[] {
  const names = [...new Set([...Object.keys(before?.metrics ?? {}), ...Object.keys(after.metrics)])].sort();
  return names.flatMap((name) => {
    const [old, now] = [before?.metrics[name], after.metrics[name]];
    const text = (of: typeof old): string => (of ? valueText(of.value, of.unit) : 'none');
    return old && now && Object.is(old.value, now.value)
      ? []
      : [`${printable(name, 100)}: ${text(old)} -> ${text(now)}`];
  });
}

/** Why results cannot be held against a baseline. */
function incomparable(baseline: Baseline, results: JudgedResults): string[] {
  const now: Readonly<Record<string, unknown>> = settingsOf(results);
  const shown = (value: unknown): string => printable(JSON.stringify(value), 80);
  const other = Object.entries(baseline.settings).flatMap(([name, was]) =>
    JSON.stringify(was) === JSON.stringify(now[name]) ? [] : [`${name} ${shown(was)} -> ${shown(now[name])}`],
  );
  const { fingerprint } = results.reference;
  return [
    ...(other.length > 0 ? [`not compared, for the settings are others: ${other.join('; ')}`] : []),
    ...(baseline.reference === fingerprint
      ? []
      : [
          `not compared, for the reference is another model: ${printable(baseline.reference, 12)} -> ${printable(fingerprint, 12)}`,
        ]),
  ];
}

function compare(
  name: string,
  baseline: Baseline,
  results: JudgedResults,
): { check: BaselineCheck; note?: string | undefined }[] {
  const tolerance = toleranceOf(name, baseline.tolerances);
  if (!tolerance) return [];
  const before = Object.hasOwn(baseline.metrics, name) ? baseline.metrics[name] : undefined;
  const { value: was, unit, better } = before ?? { value: null, unit: '', better: null };
  const metric = Object.hasOwn(results.metrics, name) ? results.metrics[name] : undefined;
  const is = metric ? measured(metric) : null;
  const shown = printable(name, 100);
  const made = (passed: boolean, message: string) => ({ metric: name, was, is, tolerance, passed, message });
  if (was === null || !isComparable({ value: was, better })) {
    return [{ check: made(false, `${shown} has no usable value in the baseline: --update gives it one`) }];
  }
  if (is === null || !isComparable({ value: is, better })) {
    const why = metric?.note ?? (metric ? (is === null ? 'not measured' : `it is ${is}`) : 'it is missing');
    return [{ check: made(false, `${shown} was ${quantity(was, unit)} and has no usable value now: ${why}`) }];
  }
  // Infinities that are the same have no difference.
  const loss = was === is ? 0 : better === 'lower' ? is - was : was - is;
  const allowed = allowance(tolerance, was);
  const change = `${shown} ${quantity(was, unit)} -> ${quantity(is, unit)}`;
  const tolerated = `tolerance ${toleranceText(tolerance, unit)}`;
  if (loss > allowed) {
    const where = losses(name, baseline, results);
    const most = where.length > 0 ? `; lost most: ${where.join(', ')}` : '';
    return [{ check: made(false, `${change}, ${quantity(loss, unit)} worse, ${tolerated}${most}`) }];
  }
  const note =
    -loss > allowed ? `${change}, better by more than the tolerance: --update makes it the baseline` : undefined;
  return [{ check: made(true, `${change}, ${tolerated}`), note }];
}

/** The linear, the step and branch, and the prompt that lost most, of those that lost something. */
function losses(metric: string, baseline: Baseline, results: JudgedResults): string[] {
  const fall = (was: number | null, is: number | null): string => `(${dB(was)} -> ${dB(is)})`;
  const linear = mostLost(
    baseline.linears.map((row) => ({ key: row.linear, value: row.sqnr, row })),
    results.linears.map((row) => ({ key: row.linear, value: row.sqnr })),
  );
  const step = mostLost(
    baseline.steps.map((row) => ({ key: stepName(row), value: row.sqnr, row })),
    results.steps.map((row) => ({ key: stepName(row), value: row.sqnr })),
  );
  const key = ({ prompt, seed }: { prompt: string; seed: number }): string => `${seed} ${nameOf(prompt)}`;
  const video = mostLost(
    baseline.videos.map((row) => ({ key: key(row), value: row.sqnr, row })),
    results.videos.map((row) => ({ key: key(row), value: row.sqnr })),
  );
  // Of a drop, more is worse.
  const less = (value: number | null): number | null => (value === null ? null : -value);
  const clip = mostLost(
    baseline.clips.map((row) => ({ key: String(row.clip), value: less(row.drop), row })),
    clipsOf(results).map((row) => ({ key: String(row.clip), value: less(row.drop) })),
  );
  const byClip = metric.startsWith('psnr_drop');
  return [
    ...(linear ? [`linear ${printable(linear.row.linear, 120)} ${fall(linear.row.sqnr, linear.is)}`] : []),
    ...(step ? [`step ${stepName(step.row)} ${fall(step.row.sqnr, step.is)}`] : []),
    ...(video && !byClip ? [`prompt ${videoName(video.row)} ${fall(video.row.sqnr, video.is)}`] : []),
    ...(clip && byClip
      ? [`prompt "${printable(clip.row.prompt, 80)}" clip ${clip.row.clip} ${fall(clip.row.drop, less(clip.is))}`]
      : []),
  ];
}

function mostLost<T>(
  before: readonly { readonly key: string; readonly value: number | null; readonly row: T }[],
  after: readonly { readonly key: string; readonly value: number | null }[],
): { readonly row: T; readonly is: number } | undefined {
  const now = new Map(after.map(({ key, value }) => [key, value]));
  let most: { row: T; is: number; loss: number } | undefined;
  for (const { key, value: was, row } of before) {
    const is = now.get(key);
    if (was === null || is === undefined || is === null || was === is) continue;
    const loss = Number.isNaN(is) ? Number.POSITIVE_INFINITY : was - is;
    // Of those that were perfect, the one that is worst now.
    const worse = most !== undefined && loss === most.loss && is < most.is;
    if (worse || loss > (most?.loss ?? 0)) most = { row, is, loss };
  }
  return most;
}

function toleranceNotes({ tolerances, metrics }: Baseline): string[] {
  return Object.entries(tolerances).flatMap(([name, own]) => {
    const [unit, usual] = [metrics[name]?.unit ?? '', defaultTolerance(name)];
    if (JSON.stringify(own) === JSON.stringify(usual)) return [];
    return [
      `tolerance of ${printable(name, 100)}: ${toleranceText(own, unit)}; by default ${toleranceText(usual, unit)}`,
    ];
  });
}

function newMetrics({ metrics, tolerances }: Baseline, results: JudgedResults): string[] {
  return Object.entries(results.metrics).flatMap(([name, metric]) =>
    !Object.hasOwn(metrics, name) &&
    !Object.hasOwn(tolerances, name) &&
    defaultTolerance(name) &&
    isComparable({ ...metric, value: measured(metric) })
      ? [`${printable(name, 100)} is not in the baseline: --update adds it`]
      : [],
  );
}

function valueText(value: number | null, unit: string): string {
  return value === null ? 'none' : quantity(value, unit);
}
