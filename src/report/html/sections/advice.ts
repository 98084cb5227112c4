import type { Advice } from '../../ladder.js';
import { type Html, html } from '../markup.js';

/** What may mend a model that failed, the cheapest first. */
export function adviceSection({ notes, rungs, command }: Advice): Html {
  return html`<section id="advice" aria-labelledby="advice-title">
<h2 id="advice-title">What may mend it</h2>
${notes.map((note) => html`<p>${note}</p>`)}
${
  rungs.length > 0
    ? html`<p>One after the other, the cheapest first:</p>
<ol class="rungs">${rungs.map(
        ({ name, does, costs, commands }) =>
          html`<li><p><strong>${name}</strong>: ${does}. <span class="quiet">Costs: ${costs}.</span></p>${commandBlock(commands, `commands of ${name}`)}</li>`,
      )}</ol>`
    : null
}
${command === undefined ? null : html`<p>All of it, until one passes:</p>${commandBlock([command], 'the command that tries all')}`}
</section>`;
}

/** Command lines with a button that copies them. */
export function commandBlock(lines: readonly string[], name: string): Html {
  return html`<div class="command"><pre tabindex="0" aria-label="${name}"><code>${lines.map((line, i) => [i > 0 ? html`\n` : null, line])}</code></pre><button type="button" class="copy needs-script" aria-label="Copy ${name}">Copy</button></div>`;
}
