import type { Results } from '../../results.js';
import { chartFigures, figure, short } from '../figures.js';
import { type Html, html } from '../markup.js';
import { axis, chart, extent, GRID, type Line, legend, lineSeries, tone, uprightAxis } from './chart.js';

const BRANCHES = [
  { branch: 'cond', name: 'with prompt', tone: 'first', dash: 'solid', marker: 'circle' },
  { branch: 'uncond', name: 'without prompt', tone: 'second', dash: 'dashed', marker: 'diamond' },
] as const;

/** SQNR of the transformer's output at each step of the reference's chain. */
export function sqnrByStep(steps: Results['steps']): Html {
  const lines = BRANCHES.flatMap(({ branch, ...rest }): Line[] => {
    const points = steps.filter((row) => row.branch === branch).map(({ step, sqnr }) => [step + 1, sqnr] as const);
    return points.length === 0 ? [] : [{ ...rest, points }];
  });
  const title = 'SQNR by step, teacher-forced';
  return html`<figure class="plot"><figcaption>${title}</figcaption>${chart(
    { id: 'chart-sqnr', title, summary: rangeText(steps.map(({ sqnr }) => sqnr)) },
    {
      grid: GRID,
      legend: legend(lines),
      xAxis: axis('step', { minInterval: 1, min: 1, max: 'dataMax' }),
      yAxis: uprightAxis('SQNR, dB'),
      series: lines.map(lineSeries),
    },
  )}${chartFigures(
    title,
    ['step', 'timestep', 'branch', 'SQNR', 'cosine', 'relative error'],
    steps.map(({ step, timestep, branch, sqnr, cosine, relativeError }) => [
      step + 1,
      timestep.toFixed(1),
      branch,
      figure(sqnr),
      cosine === null ? '-' : cosine.toFixed(6),
      relativeError === null ? '-' : relativeError.toExponential(2),
    ]),
  )}</figure>`;
}

/** How far the latents of free runs are from the reference's after each step. */
export function driftByStep(drift: Results['drift']): Html {
  const lines: Line[] = [
    {
      name: 'quantized',
      tone: 'first',
      marker: 'circle',
      points: drift.map(({ step, quantized }) => [step + 1, quantized]),
    },
    { name: 'noise floor', tone: 'quiet', dash: 'dotted', points: drift.map(({ step, floor }) => [step + 1, floor]) },
  ];
  const last = drift.at(-1);
  const title = 'Drift of the latents by step, free-running';
  return html`<figure class="plot"><figcaption>${title}</figcaption>${chart(
    {
      id: 'chart-drift',
      title,
      summary: last
        ? `After the last step ${short(last.quantized)}, noise floor ${short(last.floor)}, of the latents' norm.`
        : 'Nothing was measured.',
    },
    {
      grid: GRID,
      legend: legend(lines),
      xAxis: axis('step', { minInterval: 1, min: 1, max: 'dataMax' }),
      yAxis: uprightAxis('‖a − b‖ / ‖a‖', { scale: false }),
      series: lines.map(lineSeries),
    },
  )}${chartFigures(
    title,
    ['step', 'timestep', 'quantized', 'noise floor'],
    drift.map(({ step, timestep, quantized, floor }) => [
      step + 1,
      timestep.toFixed(1),
      short(quantized),
      short(floor),
    ]),
  )}</figure>`;
}

/** PSNR drop at each noise level: every clip, and their mean. */
export function dropBySigma(rows: Results['psnrDrop'], sigmas: readonly number[]): Html {
  const means = sigmas.map((sigma) => {
    const drops = rows.flatMap((row) => (row.sigma === sigma && row.drop !== null ? [row.drop] : []));
    const average = drops.length === 0 ? null : drops.reduce((sum, drop) => sum + drop, 0) / drops.length;
    return { sigma, drops, average, extent: extent(drops) };
  });
  const lines: Line[] = [
    {
      name: 'mean',
      tone: 'first',
      marker: 'circle',
      points: means.map(({ sigma, average }) => [sigma, average] as const),
    },
  ];
  const title = 'PSNR drop by noise level';
  return html`<figure class="plot"><figcaption>${title}</figcaption>${chart(
    {
      id: 'chart-drop',
      title,
      summary: means.map(({ sigma, average }) => `At sigma ${sigma} ${figure(average)}.`).join(' '),
    },
    {
      grid: GRID,
      legend: legend([{ name: 'mean' }, { name: 'a clip' }]),
      xAxis: axis('sigma', { min: 0, max: 1 }),
      yAxis: uprightAxis('drop, dB', { scale: false }),
      series: [
        {
          type: 'scatter',
          name: 'a clip',
          symbol: 'circle',
          symbolSize: 6,
          itemStyle: { color: 'none', borderColor: tone('second'), borderWidth: 1.4 },
          data: means.flatMap(({ sigma, drops }) => drops.filter(Number.isFinite).map((drop) => [sigma, drop])),
        },
        ...lines.map(lineSeries),
      ],
    },
  )}${chartFigures(
    title,
    ['sigma', 'mean', 'least', 'largest', 'clips'],
    means.map(({ sigma, average, extent: ends, drops }) => [
      sigma,
      figure(average),
      figure(ends?.[0] ?? null),
      figure(ends?.[1] ?? null),
      drops.length,
    ]),
  )}</figure>`;
}

function rangeText(values: readonly (number | null)[]): string {
  const ends = extent(values);
  const infinite = values.filter((value) => value === Number.POSITIVE_INFINITY).length;
  const rest = infinite > 0 ? ` ${infinite} are infinite and not drawn.` : '';
  return ends ? `From ${figure(ends[0])} to ${figure(ends[1])}.${rest}` : `Nothing to draw.${rest}`;
}
