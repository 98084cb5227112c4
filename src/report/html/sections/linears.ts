import { isOffPlan } from '../../../gate/blame.js';
import type { LinearRow } from '../../results.js';
import { linearsChart } from '../charts/linears.js';
import { type Column, decibelCell, longCell, numberCell, percent, short, table, textCell } from '../figures.js';
import type { ReportInput } from '../input.js';
import { type Html, html } from '../markup.js';

const COLUMNS: readonly Column[] = [
  { name: 'linear' },
  { name: 'shape', number: true, help: 'in x out features' },
  { name: 'precision' },
  { name: 'smoothing', number: true, help: 'strength, 0 to 1' },
  {
    name: 'threshold',
    number: true,
    help: 'range of the input that is quantized, after smoothing; sorted by its width',
  },
  { name: 'clipped', number: true, help: 'share of the inputs outside that range' },
  { name: 'SQNR', number: true, help: 'of its output, given the input that it got, dB' },
  {
    name: 'attainable',
    number: true,
    help: 'what INT8 with one static range and per-channel weights can have there, dB',
  },
  { name: 'excess', number: true, help: 'lost beyond what rounding costs: attainable - SQNR, dB' },
  { name: 'sensitivity', number: true, help: "SQNR of the transformer's output with this linear alone quantized, dB" },
  {
    name: 'scale ratio',
    number: true,
    help: "scale of its input over the one of the plan's range: 1 where the model does what the plan says, marked ! where it does not",
  },
  { name: 'reason' },
];

/** Every linear: what was decided, why, and what it did. */
export function linearsSection({ results, histograms = [] }: Pick<ReportInput, 'results' | 'histograms'>): Html {
  const { linears } = results;
  if (linears.length === 0) {
    return html`<section id="linears" aria-labelledby="linears-title">
<h2 id="linears-title">Linears</h2>
<p>Linears were not measured one by one.</p>
</section>`;
  }
  const precisions = [...new Set(linears.map(({ precision }) => precision ?? 'unknown'))].sort();
  const drawn = new Map(histograms.flatMap((histogram, i) => histogram.linears.map((linear) => [linear, i] as const)));
  return html`<section id="linears" aria-labelledby="linears-title">
<h2 id="linears-title">Linears</h2>
${linearsChart(linears)}
<div class="controls needs-script" role="search" aria-label="Filter of linears">
<label class="grow">Name or reason <input type="search" id="linear-text" autocomplete="off" spellcheck="false"></label>
<label>Precision <select id="linear-precision"><option value="">any</option>${precisions.map((name) => html`<option>${name}</option>`)}</select></label>
<output id="linear-count" role="status">${linears.length} of ${linears.length}</output>
</div>
${table(
  'Linears of the transformer, in the order of the graph; SQNR, attainable, excess and sensitivity in dB',
  COLUMNS,
  linears.map((row, i) => linearRow(row, i, drawn.get(row.linear))),
  { id: 'linears-table', className: 'dense tall' },
)}
${drawn.size > 0 ? html`<p class="hint quiet">A linear's name leads to the histogram of its input.</p>` : null}
</section>`;
}

function linearRow(row: LinearRow, i: number, histogram: number | undefined): Html {
  const {
    linear,
    shape,
    precision,
    reason,
    smoothing,
    low,
    high,
    clipped,
    sqnr,
    attainable,
    excess,
    scaleRatio,
    sensitivity,
  } = row;
  const name =
    histogram === undefined ? linear : html`<a href="#histogram-${histogram}" class="to-histogram">${linear}</a>`;
  const range = low === null || high === null ? null : `${short(low)} .. ${short(high)}`;
  return html`<tr id="linear-${i}" data-precision="${precision ?? 'unknown'}"><th scope="row">${name}</th>${numberCell((shape[0] as number) * (shape[1] as number), shape.join(' × '))}${textCell(precision ?? 'unknown')}${numberCell(smoothing, smoothing === null ? '-' : String(smoothing))}${numberCell(low === null || high === null ? null : high - low, range ?? '-')}${numberCell(clipped, percent(clipped))}${decibelCell(sqnr)}${decibelCell(attainable)}${decibelCell(excess)}${decibelCell(sensitivity)}${numberCell(scaleRatio, `${isOffPlan(row) ? '! ' : ''}${short(scaleRatio)}`)}${longCell(reason, 'note')}</tr>`;
}
