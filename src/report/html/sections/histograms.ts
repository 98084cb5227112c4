import type { TensorHistogram } from '../../histograms.js';
import { histogramChart } from '../charts/histogram.js';
import { percent, short } from '../figures.js';
import { type Html, html } from '../markup.js';

/** Histograms of activations with the range that is quantized. Each is closed until it is chosen. */
export function histogramsSection(histograms: readonly TensorHistogram[] | undefined): Html {
  const found = histograms ?? [];
  return html`<section id="histograms" aria-labelledby="histograms-title">
<h2 id="histograms-title">Activation histograms</h2>
${
  found.length === 0
    ? html`<p>No calibration file was given, so there is no histogram of any activation.</p>`
    : html`<div class="controls needs-script"><label class="wide">Activation <select id="histogram-choice"><option value="">choose one</option>${found.map(
        (histogram, i) => html`<option value="histogram-${i}">${nameOf(histogram)}</option>`,
      )}</select></label></div>
<div id="histogram-list">${found.map(details)}</div>`
}
</section>`;
}

function details(histogram: TensorHistogram, i: number): Html {
  const { tensor, linears, low, high, min, max, clipped, note } = histogram;
  const range =
    low === null || high === null
      ? null
      : html`; quantized <strong>${short(low)} .. ${short(high)}</strong>, ${percent(clipped)} of the samples outside`;
  return html`<details class="histogram" id="histogram-${i}"><summary>${nameOf(histogram)}</summary>
<figure class="plot wide"><figcaption>Input of ${linears.map((linear, k) => [k > 0 ? ', ' : '', html`<code>${linear}</code>`])} <span class="quiet">(value <code>${tensor}</code>)</span></figcaption>
${histogramChart(`histogram-chart-${i}`, histogram)}
<p class="quiet">Seen ${short(min)} .. ${short(max)}${range}. ${note}</p></figure></details>
`;
}

function nameOf({ linears, tensor }: TensorHistogram): string {
  const [first] = linears;
  if (first === undefined) return tensor;
  return linears.length === 1 ? first : `${first} and ${linears.length - 1} more`;
}
