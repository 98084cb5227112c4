import { printable } from '../errors.js';
import { judge } from '../gate/judge.js';
import { DEFAULT_RULES, type Rule } from '../gate/rules.js';
import {
  COMPARED_METRICS,
  COMPARISON_SCHEMA,
  type ComparedFigure,
  type ComparedMetric,
  type ComparedModel,
  type Comparison,
  type DifferenceToBest,
} from '../report/comparison.js';
import { formatBytes } from '../report/format.js';
import { paretoFront } from '../report/front.js';
import type { Metric, Results } from '../report/results.js';
import { VERSION } from '../version.js';
import { assertComparable } from './comparable.js';
import { uniqueNames } from './names.js';
import { pairedDifference, pairedSamples, unpairedDifference } from './pairs.js';
import type { Report } from './reports.js';

/**
 * Holds quantized models against each other, by results of evaluations against one reference that were made alike. Nothing runs.
 *
 * Each figure is held against the best of its metric over the same videos or clips: docs/compare.md says what is told of the difference.
 *
 * @param rules of the gate
 * @throws WanqError COMPARE_MISMATCH naming what the reports differ in; USAGE for fewer than two, or two of one model
 */
export function compare(reports: readonly Report[], rules: readonly Rule[] = DEFAULT_RULES): Comparison {
  assertComparable(reports);
  const [first] = reports as readonly [Report, ...Report[]];
  const names = uniqueNames(
    reports.map(({ results }) => results.quantized.path),
    reports.map(({ path }) => path.replace(/[\\/]results\.json$/, '')),
  );
  const rows = reports.map((report, i): Row => ({ ...report, name: names[i] as string }));
  const figures = new Map(COMPARED_METRICS.map((metric) => [metric, compareMetric(metric, rows)]));
  const front = new Set(
    paretoFront(
      rows.filter(({ results }) => !Number.isNaN(qualityOf(results))),
      ({ results }) => results.quantized.transformerBytes,
      ({ results }) => qualityOf(results),
    ),
  );
  const models = rows.map((row, i): ComparedModel => {
    const { name, page, results } = row;
    const { metrics, quantized, settings } = results;
    const value = (metric: string): number | null => metricOf(results, metric)?.value ?? null;
    return {
      ...{ name, report: page, model: quantized },
      floor: { psnr: value('psnr_floor'), ssim: value('ssim_floor') },
      figures: Object.fromEntries(
        COMPARED_METRICS.map((metric) => [metric, figures.get(metric)?.[i] as ComparedFigure]),
      ) as Record<ComparedMetric, ComparedFigure>,
      front: front.has(row),
      steps: stepsOf(results),
      verdict: judge(metrics, rules, { prompts: settings.prompts }),
    };
  });
  return {
    schema: COMPARISON_SCHEMA,
    wanqVersion: VERSION,
    reference: first.results.reference,
    settings: first.results.settings,
    models,
    notes: notesOf(rows, models),
  };
}

interface Row extends Report {
  readonly name: string;
}

function metricOf({ metrics }: Results, name: string): Metric | undefined {
  return Object.hasOwn(metrics, name) ? metrics[name] : undefined;
}

/** Teacher-forced SQNR; NaN where there is none. */
function qualityOf(results: Results): number {
  return metricOf(results, 'sqnr')?.value ?? Number.NaN;
}

/** @returns a figure for each row */
function compareMetric(name: ComparedMetric, rows: readonly Row[]): ComparedFigure[] {
  const figures = rows.map(({ results }) => {
    const { value = null, unit = '', better = null, n = 0, interval, note } = metricOf(results, name) ?? {};
    return { value: n > 0 ? value : null, unit, better, interval, note };
  });
  // More is better.
  const ranks = figures.map(({ value, better }) =>
    value === null || better === null ? Number.NaN : better === 'higher' ? value : -value,
  );
  const most = ranks.filter((rank) => !Number.isNaN(rank)).reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const best = rows[ranks.indexOf(most)];
  return figures.map(({ better, ...figure }, i): ComparedFigure => {
    const [rank, row] = [ranks[i] as number, rows[i] as Row];
    if (!best || Number.isNaN(rank)) return { ...figure, standing: null };
    if (rank === most) return { ...figure, standing: 'best' };
    const difference = differenceOf(name, row.results, best.results);
    if (!difference) return { ...figure, standing: null };
    const { differences, ...rest } = difference;
    const worse = (value: number): boolean => (better === 'higher' ? value < 0 : value > 0);
    return {
      ...figure,
      standing: standingOf(rest, differences.every(worse)),
      toBest: { best: best.name, ...rest },
    };
  });
}

/** Over pairs, where results hold figures of single videos or clips; else of the two figures' own intervals. */
function differenceOf(name: ComparedMetric, own: Results, best: Results): ReturnType<typeof pairedDifference> {
  const [samples, others] = [own, best].map((results) => pairedSamples(name, results));
  if (samples && others) return pairedDifference(samples, others);
  const [figure, other] = [own, best].map((results) => metricOf(results, name));
  const difference = figure && other && unpairedDifference(figure, other);
  return difference && { ...difference, differences: [difference.value] };
}

/** @param everyWorse whether no pair is an exception, which is all that an infinite difference tells */
function standingOf(
  { value, interval }: Omit<DifferenceToBest, 'best'>,
  everyWorse: boolean,
): ComparedFigure['standing'] {
  if (!interval) return Number.isFinite(value) || !everyWorse ? null : 'worse';
  return Number(interval.low) <= 0 && Number(interval.high) >= 0 ? 'tied' : 'worse';
}

function stepsOf({ steps }: Results): ComparedModel['steps'] {
  const lowest = new Map<number, ComparedModel['steps'][number]>();
  for (const { step, timestep, sqnr } of steps) {
    const known = lowest.get(step)?.sqnr ?? null;
    const lower = known === null || (sqnr !== null && sqnr < known) ? sqnr : known;
    lowest.set(step, { step, timestep, sqnr: lower });
  }
  return [...lowest.values()];
}

/** What keeps figures from saying what they seem to say. */
function notesOf(rows: readonly Row[], models: readonly ComparedModel[]): string[] {
  return [...fewUnits(models), ...componentNotes(rows), ...syntheticNotes(rows), ...machineNotes(rows)];
}

function fewUnits(models: readonly ComparedModel[]): string[] {
  const alone = COMPARED_METRICS.filter((metric) => {
    const compared = models.flatMap(({ figures }) => figures[metric].toBest ?? []);
    return compared.length > 0 && compared.every(({ value, interval }) => !interval && Number.isFinite(value));
  });
  return alone.length === 0
    ? []
    : [`${alone.join(', ')}: one prompt or clip does not tell whether a difference is more than chance`];
}

function componentNotes(rows: readonly Row[]): string[] {
  return rows.flatMap(({ name, results }) => {
    const changed = (results.components?.changed ?? []).map(
      ({ component, reference, quantized }) =>
        `${component} (${formatBytes(reference.bytes)} -> ${formatBytes(quantized.bytes)})`,
    );
    if (changed.length === 0) return [];
    return [`${printable(name, 80)} has another ${changed.join(', ')}; what is compared here is its transformer`];
  });
}

function syntheticNotes(rows: readonly Row[]): string[] {
  const of = rows.filter(({ results }) => results.quantized.calibratedOn === 'synthetic');
  return of.map(({ name }) => `${printable(name, 80)} was calibrated on random embeddings, not on prompts`);
}

/** Latency and memory are figures of a machine, and so, in the last digits, are all others. */
function machineNotes(rows: readonly Row[]): string[] {
  const facts: Readonly<Record<string, (results: Results) => string>> = {
    provider: ({ quantized }) => quantized.provider,
    platform: ({ platform }) => platform,
    'onnxruntime-node': ({ runtimeVersion }) => runtimeVersion,
    wanq: ({ wanqVersion }) => wanqVersion,
  };
  return Object.entries(facts).flatMap(([fact, of]) => {
    const values = [...new Set(rows.map(({ results }) => of(results)))];
    if (values.length < 2) return [];
    const lists = values.map((value) => {
      const those = rows.filter(({ results }) => of(results) === value);
      return `${printable(value, 40)} (${those.map(({ name }) => printable(name, 80)).join(', ')})`;
    });
    return [`not all ran alike: ${fact} ${lists.join(', ')}`];
  });
}
