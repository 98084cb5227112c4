import type { Results } from '../../results.js';
import { driftByStep, dropBySigma, sqnrByStep } from '../charts/steps.js';
import { type Html, html } from '../markup.js';

export function curvesSection({ steps, drift, psnrDrop, settings }: Results): Html {
  const charts = [
    steps.length > 0 && sqnrByStep(steps),
    drift.length > 0 && driftByStep(drift),
    psnrDrop.length > 0 && dropBySigma(psnrDrop, settings.sigmas),
  ];
  return html`<section id="curves" aria-labelledby="curves-title">
<h2 id="curves-title">Curves</h2>
${charts.some(Boolean) ? html`<div class="plots">${charts}</div>` : html`<p>Neither steps nor noise levels were measured.</p>`}
</section>`;
}
