import type { LinearRow } from '../../results.js';
import { figure } from '../figures.js';
import { type Html, html } from '../markup.js';
import { axis, chart, extent, legend, tone, uprightAxis } from './chart.js';

const SIZE = { width: 1080, height: 260 } as const;
const GRID = { left: 54, right: 16, top: 34, bottom: 40 } as const;

/** More than this beyond what rounding costs is drawn as a triangle. */
const NOTABLE_EXCESS = 3;

/** SQNR of each linear by itself, in the order of the graph, beside what INT8 can have there. */
export function linearsChart(linears: readonly LinearRow[]): Html {
  const finite = (of: (row: LinearRow) => number | null): (readonly [number, number])[] =>
    linears.flatMap((row, i) => {
      const value = of(row);
      return value !== null && Number.isFinite(value) ? [[i + 1, value] as const] : [];
    });
  const far = ({ excess }: LinearRow): boolean => excess !== null && excess > NOTABLE_EXCESS;
  const close = finite((row) => (far(row) ? null : row.sqnr));
  const apart = finite((row) => (far(row) ? row.sqnr : null));
  const farName = `SQNR, more than ${NOTABLE_EXCESS} dB below`;
  const ends = extent([...close, ...apart].map(([, sqnr]) => sqnr));
  const title = 'SQNR of each linear, in the order of the graph';
  const dots = (
    name: string,
    symbol: string,
    of: 'first' | 'second' | 'quiet',
    data: readonly (readonly number[])[],
  ): object => ({
    type: 'scatter',
    name,
    symbol,
    symbolSize: symbol === 'triangle' ? 9 : 5,
    itemStyle: { color: tone(of) },
    data,
  });
  return html`<figure class="plot wide"><figcaption>${title}</figcaption>${chart(
    {
      id: 'chart-linears',
      title,
      summary: ends
        ? `From ${figure(ends[0])} to ${figure(ends[1])}; ${apart.length} of ${linears.length} are more than ${NOTABLE_EXCESS} dB below what is attainable.`
        : 'No linear has a finite SQNR.',
    },
    {
      grid: GRID,
      legend: legend([{ name: 'attainable', icon: 'path://M0,0h14v3h-14z' }, { name: 'SQNR' }, { name: farName }]),
      xAxis: axis('linear', { min: 1, max: Math.max(2, linears.length), minInterval: 1 }),
      yAxis: uprightAxis('SQNR, dB'),
      series: [
        {
          ...dots(
            'attainable',
            'rect',
            'quiet',
            finite(({ attainable }) => attainable),
          ),
          symbolSize: [7, 1.6],
        },
        dots('SQNR', 'circle', 'first', close),
        dots(farName, 'triangle', 'second', apart),
      ],
    },
    SIZE,
  )}</figure>`;
}
