import { isOffPlan, worstLinears, worstSteps, worstVideos } from '../../../gate/blame.js';
import { baselineLine, type GateLine, gateLines } from '../../../gate/lines.js';
import { formatBytes } from '../../format.js';
import type { LinearRow, Metric, Results } from '../../results.js';
import { figure, intervalText, levelText, short } from '../figures.js';
import type { ReportInput } from '../input.js';
import { type Html, html } from '../markup.js';

/** Whether the model passed, by which checks, and where to look first. */
export function verdictSection({ results, verdict }: Pick<ReportInput, 'results' | 'verdict'>): Html {
  const { passed } = verdict;
  const baseline = baselineLine(verdict);
  return html`<section id="verdict" aria-labelledby="verdict-title" class="verdict ${passed ? 'passed' : 'failed'}">
<h1 id="verdict-title"><span class="mark" aria-hidden="true">${passed ? '✓' : '✗'}</span> ${passed ? 'Passed' : 'Failed'}: INT8 against reference</h1>
<p class="models"><span class="path">${results.quantized.path}</span> <span class="quiet">against</span> <span class="path">${results.reference.path}</span></p>
<ul class="checks">${gateLines(verdict).map(checkItem)}</ul>
${baseline === undefined ? null : html`<p class="quiet">Held against ${baseline}.</p>`}
${verdict.baseline?.notes.map((note) => html`<p class="quiet">${note}</p>`)}
${passed ? null : blame(results)}
${
  results.quantized.calibratedOn === 'synthetic'
    ? html`<p class="warning"><strong>Not of real use:</strong> the quantized model was calibrated on random embeddings, not on prompts.</p>`
    : null
}
<dl class="tiles">${tiles(results)}</dl>
</section>`;
}

const STATUS = { ok: '✓ ok', warn: '! warning', failed: '✗ failed' } as const;

function checkItem({ kind, status, message }: GateLine): Html {
  const of = kind === 'baseline' ? 'baseline: ' : '';
  return html`<li><span class="badge ${status}">${STATUS[status]}</span> ${of}${message}</li>`;
}

function blame(results: Results): Html {
  const [worst] = worstLinears(results, 1);
  const linear = results.linears.find((row) => row.linear === worst?.linear);
  const [step] = worstSteps(results, 1);
  const [video] = worstVideos(results, 1);
  const rows = [
    linear && [
      'Linear to blame first',
      html`<a href="#linear-${results.linears.indexOf(linear)}"><code>${linear.linear}</code></a>: ${linearText(linear)}`,
    ],
    step && [
      'Worst step',
      html`step ${step.step + 1}, ${step.branch === 'cond' ? 'with prompt' : 'without prompt'}, timestep ${step.timestep.toFixed(1)}: SQNR ${figure(step.sqnr)}`,
    ],
    video && [
      'Worst prompt',
      html`${promptLink(results, video)}, seed ${video.seed}: SQNR ${figure(video.sqnr)}, PSNR ${figure(video.psnr)}`,
    ],
  ].flatMap((row) => (row ? [row] : []));
  if (rows.length === 0)
    return html`<p>Neither linears nor steps nor videos were measured: nothing tells where it went wrong.</p>`;
  return html`<dl class="blame">${rows.map(([name, content]) => html`<div><dt>${name}</dt><dd>${content}</dd></div>`)}</dl>`;
}

function linearText(linear: LinearRow): string {
  const { scaleRatio, excess, sqnr, attainable } = linear;
  const off = isOffPlan(linear) ? [`the scale of its input is ${short(scaleRatio)} times the plan's`] : [];
  const figures = `(SQNR ${figure(sqnr)}, attainable ${figure(attainable)})`;
  const lost = excess === null ? [] : [`${figure(excess)} lost beyond what INT8 costs there ${figures}`];
  return [...off, ...lost].join('; ');
}

/** Leads to the clip, where there is one. */
function promptLink({ videos }: Results, { prompt, seed }: Pick<Results['videos'][number], 'prompt' | 'seed'>): Html {
  const i = videos.findIndex((video) => video.prompt === prompt && video.seed === seed);
  const quoted = html`<q>${prompt}</q>`;
  return videos[i]?.sheets || videos[i]?.strip ? html`<a href="#video-${i}" class="to-video">${quoted}</a>` : quoted;
}

function tiles({ metrics, reference, quantized }: Results): Html[] {
  const tile = (title: string, value: string, rest: string): Html =>
    html`<div><dt>${title}</dt><dd><strong>${value}</strong> <span class="quiet">${rest}</span></dd></div>`;
  const of = (name: string, title: string): Html[] => {
    const metric = metrics[name];
    return metric ? [tile(title, figure(metric.value, metric.unit), restOf(metric))] : [];
  };
  return [
    ...of('psnr_drop', 'PSNR drop'),
    ...of('fvd_growth', 'FVD growth'),
    ...of('sqnr', 'SQNR, teacher-forced'),
    ...of('psnr_median', 'PSNR, free-running, median'),
    tile(
      'Transformer on disk',
      formatBytes(quantized.transformerBytes),
      `of ${formatBytes(reference.transformerBytes)}`,
    ),
    tile('A forward', `${quantized.forwardMs.toFixed(1)} ms`, `of ${reference.forwardMs.toFixed(1)} ms`),
  ];
}

function restOf({ value, interval, unit, n, note }: Metric): string {
  if (value === null) return note ?? 'not measured';
  return interval ? `${levelText(interval)}: ${intervalText(interval, unit)}` : `n = ${n}`;
}
