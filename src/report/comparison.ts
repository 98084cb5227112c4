import type { Verdict } from '../gate/judge.js';
import { formatBytes, formatInterval, formatMetric } from './format.js';
import { figureText, type Interval, type Metric, type Results } from './results.js';

/** Version of compare.json. */
export const COMPARISON_SCHEMA = 1;

/** Columns of the table, each of a metric. */
export const COMPARED_COLUMNS = [
  { name: 'on disk', metric: 'size_ratio' },
  { name: 'SQNR', metric: 'sqnr' },
  { name: 'worst step', metric: 'sqnr_min' },
  { name: 'PSNR drop', metric: 'psnr_drop' },
  { name: 'PSNR, free run', metric: 'psnr' },
  { name: 'SSIM', metric: 'ssim' },
  { name: 'FVD growth', metric: 'fvd_growth' },
  { name: 'latency', metric: 'latency_ratio' },
  { name: 'peak memory', metric: 'memory_ratio' },
] as const;

export type ComparedMetric = (typeof COMPARED_COLUMNS)[number]['metric'];

export const COMPARED_METRICS: readonly ComparedMetric[] = COMPARED_COLUMNS.map(({ metric }) => metric);

/** What a model's figure is less the best model's. */
export interface DifferenceToBest {
  /** Name of the best model. */
  readonly best: string;
  readonly value: number;
  /** Pairs of videos, or of clips and noise levels; null where results hold no figures of single ones. */
  readonly pairs: number | null;
  /** Of the pairs' mean, else of both figures' own intervals. Absent with fewer than two prompts or clips, or where the difference is infinite. */
  readonly interval?: Interval | undefined;
}

export interface ComparedFigure extends Pick<Metric, 'value' | 'unit' | 'interval' | 'note'> {
  /** `tied`: the interval of the difference to the best holds 0. null: not measured, or nothing tells. */
  readonly standing: 'best' | 'tied' | 'worse' | null;
  /** Of metrics whose results hold figures of single videos or clips, or an interval. */
  readonly toBest?: DifferenceToBest | undefined;
}

export interface ComparedModel {
  /** Of its folder, made unique. */
  readonly name: string;
  /** Where its report lies: the page that people read, else results.json. */
  readonly report: string;
  readonly model: Results['quantized'];
  /** Of the noise floor, which the reference has in a free run. */
  readonly floor: { readonly psnr: number | null; readonly ssim: number | null };
  readonly figures: Readonly<Record<ComparedMetric, ComparedFigure>>;
  /** Whether no other model is both at most as large and at least as good by SQNR. */
  readonly front: boolean;
  /** Teacher-forced SQNR, dB, of the guidance branch that is lower. */
  readonly steps: readonly { readonly step: number; readonly timestep: number; readonly sqnr: number | null }[];
  readonly verdict: Verdict;
}

/** Quantized models that were held against one reference alike. */
export interface Comparison {
  readonly schema: typeof COMPARISON_SCHEMA;
  readonly wanqVersion: string;
  readonly reference: Results['reference'];
  readonly settings: Results['settings'];
  readonly models: readonly ComparedModel[];
  /** What a reader must know to compare: other components, other machines, too few prompts. */
  readonly notes: readonly string[];
}

/** What a cell says, and what stands below or behind it in smaller letters. */
export interface ComparedCell {
  readonly mark: '' | '*' | '~';
  readonly text: string;
  readonly detail: string;
}

export function comparedCell({ model, floor, figures }: ComparedModel, metric: ComparedMetric): ComparedCell {
  const figure = figures[metric];
  const mark = figure.standing === 'best' ? '*' : figure.standing === 'tied' ? '~' : '';
  const cell = (text: string, detail: string): ComparedCell => ({ mark, text, detail });
  const floorText = (value: number | null, unit: string): string =>
    value === null ? '' : `floor ${formatMetric({ value, unit })}`;
  switch (metric) {
    case 'size_ratio':
      return cell(formatBytes(model.transformerBytes), ratioText(figure.value));
    case 'memory_ratio':
      return cell(formatBytes(model.peakBytes), ratioText(figure.value));
    case 'latency_ratio':
      return cell(ratioText(figure.value), `${model.forwardMs.toFixed(1)} ms`);
    case 'psnr':
      return cell(formatMetric(figure), floorText(floor.psnr, 'dB'));
    case 'ssim':
      return cell(formatMetric(figure), floorText(floor.ssim, ''));
    default:
      return cell(formatMetric(figure), formatInterval(figure));
  }
}

/** The verdict, and the first of what failed it. */
export function verdictCell({ passed, checks, problems = [] }: Verdict): ComparedCell {
  const failed = checks.filter((check) => !check.passed && check.rule.level === 'error');
  const [first, ...others] = new Set([...failed.map(({ rule }) => rule.metric), ...problems]);
  const detail = others.length === 0 ? (first ?? '') : `${first} and ${others.length} more`;
  return { mark: '', text: passed ? 'passed' : 'failed', detail };
}

/** `+1.23 dB (0.45 .. 2.01)`: what a model's figure is less the best one's. */
export function differenceText({ value, interval }: DifferenceToBest, unit: string): string {
  const figure = formatMetric({ value, unit });
  const ends = interval ? ` (${formatInterval({ interval, unit })})` : '';
  return `${value > 0 ? '+' : ''}${figure}${ends}`;
}

/** What the marks say; of a comparison whose intervals all have one level. */
export function marksText({ models }: Comparison): string[] {
  const differences = models.flatMap(({ figures }) => COMPARED_METRICS.flatMap((name) => figures[name].toBest ?? []));
  const level = differences.find(({ interval }) => interval)?.interval?.level;
  return [
    '*: the best figure of its column.',
    ...(level === undefined
      ? []
      : [
          `~: not told apart from the best: on other prompts it might be as good, for the ${Number((100 * level).toFixed(1))} % interval of its difference to the best holds 0.`,
        ]),
    'SQNR, PSNR drop, free-running PSNR and SSIM are held against the best pair by pair, over the prompts or clips that all models share; FVD growth by the intervals of both. In the other columns nothing but the best is marked.',
  ];
}

export function comparisonToJson(comparison: Comparison): string {
  return `${JSON.stringify(comparison, figureText, 2)}\n`;
}

export function ratioText(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(2)}x`;
}
