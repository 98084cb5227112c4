import { formatBytes, titledMetrics } from '../../format.js';
import type { Metric, Results } from '../../results.js';
import { type Column, factsTable, figure, intervalText, levelText, table } from '../figures.js';
import { type Html, html } from '../markup.js';

const COLUMNS: readonly Column[] = [
  { name: 'metric' },
  { name: 'value', number: true },
  {
    name: 'interval',
    number: true,
    help: 'where the figure lies if the evaluation were made again with other prompts',
  },
  { name: 'median', number: true },
  { name: 'worst', number: true },
  { name: 'n', number: true },
  { name: 'note' },
];

/** Every figure that was measured, in reading order. */
export function metricsSection(results: Results): Html {
  const titled = titledMetrics(results.metrics);
  const known = new Set(titled.map(({ name }) => name));
  const others = Object.entries(results.metrics).filter(([name]) => !known.has(name));
  const rows = [
    ...titled.map(({ name, title, metric }) => row(html`${title} <code class="quiet">${name}</code>`, metric)),
    ...others.map(([name, metric]) => row(html`<code>${name}</code>`, metric)),
  ];
  return html`<section id="figures" aria-labelledby="figures-title">
<h2 id="figures-title">Figures</h2>
${table('Metrics of the quantized pipeline against the reference', COLUMNS, rows, { className: 'dense' })}
${intervalsNote(results)}
<p class="quiet">Free-running PSNR says how far two chains diverge, not how good either is: read it beside its noise floor, which is what a harmless change of the reference model does to the same seeds.</p>
${componentsTables(results)}
</section>`;
}

function row(title: Html, { value, unit, interval, median, worst, n, note, better }: Metric): Html {
  const number = (content: number | null | undefined): Html =>
    html`<td class="number">${content === undefined ? '' : figure(content, unit)}</td>`;
  const direction = better === null ? '' : better === 'lower' ? '↓' : '↑';
  const arrow =
    direction &&
    html` <span class="quiet" title="${better} is better" aria-label="${better} is better">${direction}</span>`;
  return html`<tr><th scope="row">${title}</th><td class="number">${figure(value, unit)}${arrow}</td><td class="number">${
    interval ? intervalText(interval, unit) : null
  }</td>${number(median)}${number(worst)}<td class="number">${n}</td><td class="note">${note}</td></tr>`;
}

function intervalsNote({ metrics }: Results): Html | null {
  const intervals = Object.values(metrics).flatMap(({ interval }) => interval ?? []);
  const [found] = intervals;
  if (!found) return null;
  const units = intervals.map((interval) => interval.units);
  const used = [...new Set([Math.min(...units), Math.max(...units)])].join(' to ');
  return html`<p class="quiet">Intervals of ${levelText(found)}: where a figure lies if the evaluation were made again with other prompts, by resampling the ${used} that were used.</p>`;
}

/** What of each component, and of all together, was measured; nothing where only the transformer differs. */
function componentsTables({ components, metrics }: Results): Html | null {
  if (!components) return null;
  const { changed, embeddings, videos } = components;
  const metric = (name: string): string => {
    const found = metrics[name];
    return found ? figure(found.value, found.unit) : '-';
  };
  return html`<h3>Components</h3>
${factsTable(
  'Components that are others in the quantized pipeline',
  ['component', 'reference', 'quantized'],
  changed.map(({ component, reference, quantized }) => [
    component,
    formatBytes(reference.bytes),
    formatBytes(quantized.bytes),
  ]),
)}
${factsTable(
  'Against the reference pipeline, each component alone and all together',
  ['', 'SQNR of embeddings', 'teacher-forced SQNR', 'PSNR of videos'],
  [
    ['text encoder alone', metric('embedding_sqnr'), metric('text_encoder_sqnr'), '-'],
    ['VAE decoder alone', '-', '-', metric('vae_decoder_psnr')],
    ['all together', '-', metric('pipeline_sqnr'), metric('pipeline_psnr')],
  ],
)}
${
  embeddings.length > 0
    ? factsTable(
        'Text embeddings by prompt',
        ['prompt', 'SQNR', 'cosine'],
        embeddings.map(({ prompt, sqnr, cosine }) => [prompt, figure(sqnr), figure(cosine, '')]),
      )
    : null
}
${factsTable(
  'Videos by component',
  ['prompt', 'seed', 'transformer alone', 'VAE decoder alone', 'all together', 'SSIM, all together'],
  videos.map(({ prompt, seed, transformerPsnr, vaePsnr, pipelinePsnr, pipelineSsim }) => [
    prompt,
    seed,
    figure(transformerPsnr),
    figure(vaePsnr),
    figure(pipelinePsnr),
    figure(pipelineSsim, ''),
  ]),
)}`;
}
