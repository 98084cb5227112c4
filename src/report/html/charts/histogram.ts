import type { TensorHistogram } from '../../histograms.js';
import { short } from '../figures.js';
import type { Html } from '../markup.js';
import { axis, chart, tone, uprightAxis } from './chart.js';

const SIZE = { width: 640, height: 240 } as const;
const GRID = { left: 54, right: 20, top: 40, bottom: 40 } as const;

/** Values of a tensor, and the range that is quantized. Counts are logarithmic: what is clipped is rare. */
export function histogramChart(id: string, { counts, from, to, low, high, min, max }: TensorHistogram): Html {
  const width = (to - from) / Math.max(1, counts.length);
  const ends = low !== null && high !== null ? ([low, high] as const) : undefined;
  const left = Math.min(from, ends?.[0] ?? from);
  const right = Math.max(to, ends?.[1] ?? to);
  const steps = counts.map((count, i) => [from + i * width, Math.log10(1 + count)]);
  const end = counts.length === 0 ? [] : [[to, Math.log10(1 + (counts.at(-1) as number))]];
  const label = (at: number, name: string): object => ({
    xAxis: at,
    label: { formatter: `${name} ${short(at)}`, color: tone('ink'), fontSize: 12, position: 'end' },
  });
  const thresholds = ends && {
    markLine: {
      symbol: 'none',
      silent: true,
      lineStyle: { color: tone('second'), type: 'dashed', width: 1.6 },
      data: [label(ends[0], 'low'), label(ends[1], 'high')],
    },
    markArea: {
      silent: true,
      itemStyle: { color: tone('second'), opacity: 0.12 },
      data: [
        [{ xAxis: left }, { xAxis: ends[0] }],
        [{ xAxis: ends[1] }, { xAxis: right }],
      ],
    },
  };
  return chart(
    {
      id,
      title: 'Histogram of the activation',
      summary: `Values from ${short(min)} to ${short(max)}.${ends ? ` Quantized from ${short(ends[0])} to ${short(ends[1])}.` : ''}`,
    },
    {
      grid: GRID,
      xAxis: axis('value', {
        min: left,
        max: right,
        axisLabel: { color: tone('quiet'), fontSize: 11, formatter: short, hideOverlap: true },
      }),
      yAxis: uprightAxis('samples', {
        scale: false,
        minInterval: 1,
        axisLabel: { color: tone('quiet'), fontSize: 11, formatter: (exponent: number) => countText(exponent) },
      }),
      series: [
        {
          type: 'line',
          step: 'end',
          symbol: 'none',
          lineStyle: { color: tone('first'), width: 1.2 },
          areaStyle: { color: tone('first'), opacity: 0.35 },
          data: [...steps, ...end],
          ...thresholds,
        },
      ],
    },
    SIZE,
  );
}

function countText(exponent: number): string {
  if (exponent === 0) return '0';
  if (exponent < 4) return String(10 ** exponent);
  return `1e${exponent}`;
}
