import { keyOf, sizeChart, stepsChart } from './compare-charts.js';
import { differenceRows, FRONT_TEXT } from './compare-markdown.js';
import {
  COMPARED_COLUMNS,
  type ComparedCell,
  type ComparedMetric,
  type ComparedModel,
  type Comparison,
  comparedCell,
  marksText,
  verdictCell,
} from './comparison.js';
import { formatBytes } from './format.js';
import { factsTable, table } from './html/figures.js';
import { type Content, type Html, html } from './html/markup.js';
import { settingRows } from './html/sections/provenance.js';
import { htmlPage } from './html/skeleton.js';
import { relativeUrl } from './links.js';

const TITLE = 'Quantized models against one reference';

/** The comparison as one HTML page that needs no other file and no network; reports are linked where their path is relative to the page's. */
export function comparisonHtml(comparison: Comparison): string {
  const { reference, models, wanqVersion } = comparison;
  const sections = [
    ['models', 'Models', modelsSection(comparison)],
    ['charts', 'Charts', html`<div class="plots">${sizeChart(models)}${stepsChart(models)}</div>`],
    ['differences', 'Differences', differencesTable(comparison)],
    ['provenance', 'Provenance', provenance(comparison)],
  ] as const;
  const present = sections.filter(([, , content]) => content !== null);
  const body = html`<section class="verdict" aria-labelledby="title">
<h1 id="title">${models.length} quantized models against one reference</h1>
<p class="models"><span class="path">${reference.path}</span> <span class="quiet">${formatBytes(reference.transformerBytes)}, ${reference.forwardMs.toFixed(1)} ms a forward, ${formatBytes(reference.peakBytes)} of memory, on ${reference.provider}</span></p>
</section>
${present.map(([id, name, content]) => html`<section id="${id}" aria-labelledby="${id}-title">\n<h2 id="${id}-title">${name}</h2>\n${content}\n</section>\n`)}`;
  return htmlPage({ title: TITLE, wanqVersion, sections: present.map(([id, name]) => [id, name]), body });
}

function modelsSection(comparison: Comparison): Html {
  const { models, notes } = comparison;
  const columns = [
    { name: '#', number: true, help: 'number in the charts' },
    { name: 'model' },
    { name: 'gate' },
    ...COMPARED_COLUMNS.map(({ name }) => ({ name, number: true })),
  ];
  const rows = models.map(
    (model, i) =>
      html`<tr><td class="number" data-value="${i}">${keyOf(i)}</td><th scope="row">${linked(model, model.front ? html`<span title="${FRONT_TEXT}">◆</span> ` : null)}</th>${gateCell(model)}${COMPARED_COLUMNS.map(({ metric }) => cell(model, metric))}</tr>`,
  );
  return html`${table('Against the reference; small: ratio, interval or noise floor', columns, rows, { id: 'models-table', className: 'dense' })}
${[...marksText(comparison), FRONT_TEXT].map((line) => html`<p class="quiet hint">${line}</p>`)}
${notes.map((note) => html`<p class="warning">${note}</p>`)}`;
}

const MARKS = { '*': 'best of its column', '~': 'not told apart from the best' } as const;

function cell(model: ComparedModel, metric: ComparedMetric): Html {
  const { value } = model.figures[metric];
  const { mark, text, detail } = comparedCell(model, metric);
  const sign = mark && html`<span title="${MARKS[mark]}" aria-label="${MARKS[mark]}">${mark}</span> `;
  return html`<td class="number" data-value="${value === null ? '' : String(value)}">${sign}${mark === '*' ? html`<strong>${text}</strong>` : text}${small(detail)}</td>`;
}

function gateCell({ verdict }: ComparedModel): Html {
  const { text, detail }: ComparedCell = verdictCell(verdict);
  return html`<td><span class="badge ${text}">${verdict.passed ? '✓' : '✗'} ${text}</span>${small(detail)}</td>`;
}

function small(detail: string): Html | null {
  return detail === '' ? null : html`<br><span class="quiet hint">${detail}</span>`;
}

function linked({ name, report }: ComparedModel, mark: Html | null): Html {
  const href = relativeUrl(report);
  return bounded(name, html`${mark}${href === undefined ? name : html`<a href="${href}">${name}</a>`}`);
}

/** A name that may be long: it shows the beginning, and the whole to those who point at it. */
function bounded(name: string, shown: Content = name): Html {
  return html`<div class="long" title="${name}">${shown}</div>`;
}

function differencesTable(comparison: Comparison): Html | null {
  const rows = differenceRows(comparison).map(([metric, model = '', best = '', ...rest]) => {
    return [metric, bounded(model), bounded(best), ...rest];
  });
  if (rows.length === 0) return null;
  return factsTable(
    'Each model less the best, with intervals; paired over the same videos or clips where results hold figures of single ones',
    ['metric', 'model', 'best', 'difference', 'pairs', 'told apart'],
    rows,
  );
}

function provenance({ reference, settings, models }: Comparison): Html {
  const code = (text: string): Html => html`<code class="hash">${text}</code>`;
  const folder = (text: string): Html => bounded(text, html`<span class="path">${text}</span>`);
  return html`${factsTable(
    'Models',
    ['', 'folder', 'fingerprint of the transformer', 'ran on', 'calibrated on'],
    [
      ['reference', folder(reference.path), code(reference.fingerprint), reference.provider, '-'],
      ...models.map(({ name, model }) => [
        ...[bounded(name), folder(model.path), code(model.fingerprint), model.provider],
        model.calibratedOn ?? '-',
      ]),
    ],
  )}
${factsTable('Settings, the same for all', ['setting', 'value'], settingRows(settings))}`;
}
