import { formatBytes, formatDuration } from '../../format.js';
import type { Results } from '../../results.js';
import { costChart } from '../charts/cost.js';
import { factsTable, figure, percent } from '../figures.js';
import { type Html, html } from '../markup.js';

/** Size, memory, latency, where it ran and how long the evaluation took. */
export function costSection(results: Results): Html {
  const { reference, quantized, metrics, timing } = results;
  const bound = metrics.int8_speed_bound;
  const { wallMs, modelMs } = timing;
  const own = wallMs > 0 ? Math.max(0, wallMs - modelMs) / wallMs : null;
  return html`<section id="cost" aria-labelledby="cost-title">
<h2 id="cost-title">Cost</h2>
${costChart(results)}
${
  bound
    ? html`<p>Bound on the speed-up: <strong>${figure(bound.value, bound.unit)}</strong>${bound.note ? `: ${bound.note}` : null}.</p>`
    : null
}
${factsTable(
  'Models',
  ['', 'reference', 'quantized'],
  [
    ['transformer on disk', formatBytes(reference.transformerBytes), formatBytes(quantized.transformerBytes)],
    ['peak memory of its process', formatBytes(reference.peakBytes), formatBytes(quantized.peakBytes)],
    ['median forward', `${reference.forwardMs.toFixed(1)} ms`, `${quantized.forwardMs.toFixed(1)} ms`],
    ['execution provider', reference.provider, quantized.provider],
  ],
)}
<p class="quiet">The evaluation took ${formatDuration(wallMs)}, ${formatDuration(modelMs)} of it running and loading models; ${percent(own)} is its own work.</p>
</section>`;
}
