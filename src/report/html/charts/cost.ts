import { formatBytes } from '../../format.js';
import type { Results } from '../../results.js';
import { type Html, html } from '../markup.js';
import { axis, chart, legend, tone } from './chart.js';

const SIZE = { width: 760, height: 250 } as const;

interface Row {
  readonly name: string;
  readonly reference: number;
  readonly quantized: number;
  readonly text: (value: number) => string;
  /** The least that it can be. */
  readonly bound?: number | undefined;
}

/** Size, memory and latency of the quantized model, of the reference's. */
export function costChart({ reference, quantized, metrics }: Results): Html {
  const speed = metrics.int8_speed_bound?.value ?? null;
  const milliseconds = (value: number): string => `${value.toFixed(1)} ms`;
  const rows: readonly Row[] = [
    {
      name: 'on disk',
      reference: reference.transformerBytes,
      quantized: quantized.transformerBytes,
      text: formatBytes,
    },
    { name: 'peak memory', reference: reference.peakBytes, quantized: quantized.peakBytes, text: formatBytes },
    {
      name: 'a forward',
      reference: reference.forwardMs,
      quantized: quantized.forwardMs,
      text: milliseconds,
      bound: speed === null || !(speed > 0) ? undefined : reference.forwardMs / speed,
    },
  ];
  const share = (value: number | undefined, row: Row): number | '-' =>
    value === undefined || !(row.reference > 0) ? '-' : (100 * value) / row.reference;
  const bars = (name: string, of: 'first' | 'second' | 'quiet', value: (row: Row) => number | undefined): object => ({
    type: 'bar',
    name,
    barMaxWidth: 18,
    barGap: '20%',
    itemStyle:
      name === 'bound'
        ? { color: tone('page'), borderColor: tone('ink'), borderType: 'dashed', borderWidth: 1.2 }
        : { color: tone(of) },
    label: { show: true, position: 'right', color: tone('ink'), fontSize: 12 },
    data: rows.map((row) => {
      const part = share(value(row), row);
      const figure = part === '-' ? '' : `${row.text(value(row) as number)} (${part.toFixed(0)} %)`;
      return { value: part, label: { formatter: figure } };
    }),
  });
  const title = 'Size, memory and latency of the transformer, reference = 100 %';
  return html`<figure class="plot wide"><figcaption>${title}</figcaption>${chart(
    {
      id: 'chart-cost',
      title,
      summary: rows
        .map(
          (row) =>
            `${row.name}: ${row.text(row.reference)} and ${row.text(row.quantized)}${row.bound === undefined ? '' : `, at best ${row.text(row.bound)}`}.`,
        )
        .join(' '),
    },
    {
      grid: { left: 96, right: 130, top: 34, bottom: 24 },
      legend: legend([{ name: 'reference' }, { name: 'quantized' }, { name: 'bound' }]),
      xAxis: axis('', { min: 0, axisLabel: { formatter: '{value} %', color: tone('quiet'), fontSize: 11 } }),
      yAxis: {
        type: 'category',
        inverse: true,
        data: rows.map(({ name }) => name),
        axisTick: { show: false },
        axisLine: { lineStyle: { color: tone('quiet') } },
        axisLabel: { color: tone('ink'), fontSize: 12 },
      },
      series: [
        bars('reference', 'quiet', ({ reference: value }) => value),
        bars('quantized', 'first', ({ quantized: value }) => value),
        bars('bound', 'quiet', ({ bound }) => bound),
      ],
    },
    SIZE,
  )}</figure>`;
}
