import type { ComparedModel } from './comparison.js';
import { formatBytes } from './format.js';
import {
  axis,
  chart,
  extent,
  GRID,
  type Line,
  legend,
  lineSeries,
  type Tone,
  tone,
  uprightAxis,
} from './html/charts/chart.js';
import { chartFigures, figure, intervalText } from './html/figures.js';
import { type Html, html, visible } from './html/markup.js';

const SIZE = { width: 560, height: 340 } as const;

/** A point of the chart of sizes: bytes, SQNR and the ends of its interval. */
interface Point {
  readonly key: string;
  readonly bytes: number;
  readonly sqnr: number;
  readonly low: number | undefined;
  readonly high: number | undefined;
  readonly front: boolean;
}

/** Size on disk against SQNR with its interval; points carry the models' numbers in the table. */
export function sizeChart(models: readonly ComparedModel[]): Html {
  const points = models.flatMap(({ model, figures, front }, i): Point[] => {
    const { value, interval } = figures.sqnr;
    if (value === null || !Number.isFinite(value)) return [];
    const ends = { low: interval?.low ?? undefined, high: interval?.high ?? undefined };
    return [{ key: keyOf(i), bytes: model.transformerBytes, sqnr: value, ...ends, front }];
  });
  const front = points.filter((point) => point.front).sort((a, b) => a.bytes - b.bytes);
  const bars = points.flatMap(({ bytes, low, high }) =>
    low !== undefined && high !== undefined && Number.isFinite(low) && Number.isFinite(high)
      ? [[bytes, low, high]]
      : [],
  );
  const title = 'Size against SQNR';
  const dropped = models.length - points.length;
  const summary = `${points.map(({ key, bytes, sqnr }) => `Model ${key}: ${formatBytes(bytes)}, ${figure(sqnr)}.`).join(' ')}${dropped > 0 ? ` ${dropped} without a finite SQNR are not drawn.` : ''}`;
  return html`<figure class="plot"><figcaption>${title}: numbers are the table’s, bars 95 % intervals</figcaption>${chart(
    { id: 'chart-size', title, summary },
    {
      grid: { ...GRID, left: 58, right: 34 },
      legend: legend([{ name: FRONT }, { name: OTHERS }]),
      xAxis: axis('transformer on disk', {
        scale: true,
        boundaryGap: ['6%', '6%'],
        axisLabel: { color: tone('quiet'), fontSize: 11, hideOverlap: true, formatter: formatBytes },
      }),
      yAxis: uprightAxis('SQNR, dB'),
      series: [
        errorBars(bars),
        {
          ...dots(FRONT, 'diamond', 'first', front),
          type: 'line',
          lineStyle: { color: tone('first'), width: 1.4, type: 'dashed' },
        },
        dots(
          OTHERS,
          'circle',
          'second',
          points.filter((point) => !point.front),
        ),
      ],
    },
    SIZE,
  )}${chartFigures(
    title,
    ['model', 'on disk', 'SQNR', 'interval', 'on the front'],
    models.map(({ name, model, figures: { sqnr }, front: on }, i) => [
      `${keyOf(i)} ${name}`,
      formatBytes(model.transformerBytes),
      figure(sqnr.value),
      sqnr.interval ? intervalText(sqnr.interval, 'dB') : '-',
      on ? 'yes' : 'no',
    ]),
  )}</figure>`;
}

const FRONT = 'front';
const OTHERS = 'others';

function dots(name: string, symbol: string, of: Tone, points: readonly Point[]): object {
  return {
    type: 'scatter',
    name,
    symbol,
    symbolSize: symbol === 'diamond' ? 11 : 8,
    showSymbol: true,
    itemStyle: { color: tone(of) },
    label: { show: true, position: 'right', color: tone('ink'), fontSize: 12 },
    data: points.map(({ key, bytes, sqnr }) => ({ value: [bytes, sqnr], label: { formatter: key } })),
  };
}

interface Drawing {
  value(dimension: number): number;
  coord(point: readonly [number, number]): readonly [number, number];
}

/** @param bars x, low end, high end */
function errorBars(bars: readonly (readonly number[])[]): object {
  return {
    type: 'custom',
    name: 'interval',
    silent: true,
    encode: { x: 0, y: [1, 2] },
    data: bars,
    renderItem: (_: unknown, api: Drawing) => {
      const [[x, low], [, high]] = [api.coord([api.value(0), api.value(1)]), api.coord([api.value(0), api.value(2)])];
      const line = (x1: number, y1: number, x2: number, y2: number): object => ({
        type: 'line',
        shape: { x1, y1, x2, y2 },
        style: { stroke: tone('quiet'), lineWidth: 1.2 },
      });
      return {
        type: 'group',
        children: [line(x, low, x, high), line(x - 4, low, x + 4, low), line(x - 4, high, x + 4, high)],
      };
    },
  };
}

const TONES: readonly Tone[] = ['first', 'second', 'third', 'ink'];
const DASHES = ['solid', 'dashed', 'dotted'] as const;
const MARKERS = ['circle', 'diamond', 'triangle'] as const;

/** Teacher-forced SQNR at each step of the reference's chain, a line a model. */
export function stepsChart(models: readonly ComparedModel[]): Html | null {
  const lines = models.flatMap(({ name, steps }, i): Line[] => {
    if (steps.length === 0) return [];
    return [
      {
        name: `${keyOf(i)} ${clipped(visible(name))}`,
        tone: TONES[i % TONES.length] as Tone,
        dash: DASHES[Math.floor(i / TONES.length) % DASHES.length] ?? 'solid',
        marker: MARKERS[i % MARKERS.length] ?? 'circle',
        points: steps.map(({ step, sqnr }) => [step + 1, sqnr]),
      },
    ];
  });
  if (lines.length === 0) return null;
  const title = 'SQNR by step, teacher-forced, the lower of both guidance branches';
  const rowsOfLegend = Math.ceil(lines.length / 3);
  const byStep = [...new Set(models.flatMap(({ steps }) => steps.map(({ step }) => step)))].sort((a, b) => a - b);
  const sqnrAt = (model: ComparedModel, step: number): number | null =>
    model.steps.find((row) => row.step === step)?.sqnr ?? null;
  const summary = models
    .map((model, i) => {
      const ends = extent(model.steps.map(({ sqnr }) => sqnr));
      return ends ? `Model ${keyOf(i)}: from ${figure(ends[0])} to ${figure(ends[1])}.` : '';
    })
    .join(' ');
  return html`<figure class="plot"><figcaption>${title}</figcaption>${chart(
    { id: 'chart-steps', title, summary },
    {
      grid: { ...GRID, top: 28 + 18 * (rowsOfLegend + 1) },
      legend: legend(lines),
      xAxis: axis('step', { minInterval: 1, min: 1, max: 'dataMax' }),
      yAxis: uprightAxis('SQNR, dB'),
      series: lines.map(lineSeries),
    },
    SIZE,
  )}${chartFigures(
    title,
    ['step', ...models.map(({ name }, i) => `${keyOf(i)} ${clipped(name)}`)],
    byStep.map((step) => [step + 1, ...models.map((model) => figure(sqnrAt(model, step)))]),
  )}</figure>`;
}

/** What a model is called in charts and in the first column of the table. */
export function keyOf(position: number): string {
  return String(position + 1);
}

function clipped(name: string): string {
  const letters = [...name];
  return letters.length > 20 ? `${letters.slice(0, 19).join('')}…` : name;
}
