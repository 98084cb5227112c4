import { formatBytes } from '../../format.js';
import type { DeviceRow, Results } from '../../results.js';
import { factsTable, table, textCell } from '../figures.js';
import type { ReportInput } from '../input.js';
import { type Html, html } from '../markup.js';
import { commandBlock } from './advice.js';

/** How the results were made, and how to make them again. */
export function provenanceSection({ results, command }: Pick<ReportInput, 'results' | 'command'>): Html {
  const { settings, reference, quantized } = results;
  return html`<section id="provenance" aria-labelledby="provenance-title">
<h2 id="provenance-title">How it was made</h2>
${
  command && command.length > 0
    ? html`<p>To make it again:</p>${commandBlock([commandLine(command)], 'command to reproduce')}`
    : null
}
${factsTable(
  'Models',
  ['', 'reference', 'quantized'],
  [
    ['folder', path(reference.path), path(quantized.path)],
    ['fingerprint of the transformer', code(reference.fingerprint), code(quantized.fingerprint)],
    ['calibrated on', reference.calibratedOn ?? '-', quantized.calibratedOn ?? '-'],
  ],
)}
${devicesTable(results.devices)}
${factsTable('Settings', ['setting', 'value'], settingRows(settings))}
${factsTable(
  'Programs',
  ['', 'version'],
  [
    ['date', results.createdAt],
    ['wanq', results.wanqVersion],
    ['onnxruntime', results.runtimeVersion],
    ['Node', results.nodeVersion],
    ['platform', results.platform],
  ],
)}
</section>`;
}

export function settingRows(settings: Results['settings']): readonly (readonly [string, string | Html])[] {
  return [
    ['prompts', `${settings.prompts}, ${settings.seedsPerPrompt} seeds each, from ${settings.seed}`],
    ['SHA-256 of the prompts', code(settings.promptsDigest)],
    ['steps', `${settings.steps} of ${settings.scheduler}`],
    ['guidance', String(settings.guidance)],
    ['negative prompt', settings.negativePrompt === '' ? 'none' : settings.negativePrompt],
    ['latents', settings.latents.join(' × ')],
    ['noise levels of the PSNR drop', settings.sigmas.join(', ')],
    ['clips', settings.clips],
    ['feature network', settings.features ?? 'none'],
    ['noise floor', settings.noiseFloor],
  ];
}

function devicesTable(devices: readonly DeviceRow[]): Html | null {
  if (devices.length === 0) return null;
  const columns = ['component', 'asked', 'ran on', 'refused before', 'nodes', 'peak memory', 'device memory'];
  return table(
    'Where each component ran',
    columns.map((name) => ({ name })),
    devices.map(({ component, asked, ran, refused, nodes, peakBytes, deviceBytes }) => {
      const why = refused.map(({ provider, reason }) => html`<li><strong>${provider}</strong>: ${reason}</li>`);
      const taken = Object.entries(nodes ?? {}).map(([provider, count]) => `${provider} ${count}`);
      return html`<tr><th scope="row">${component}</th>${textCell(asked)}${textCell(html`${ran}${refused.length > 0 ? html` <span class="badge warn">! fell back</span>` : null}`)}${textCell(why.length > 0 ? html`<ul class="plain">${why}</ul>` : '-')}${textCell(taken.join(', ') || '-')}${textCell(formatBytes(peakBytes))}${textCell(deviceBytes === null ? '-' : formatBytes(deviceBytes))}</tr>`;
    }),
  );
}

function code(text: string): Html {
  return html`<code class="hash">${text}</code>`;
}

function path(text: string): Html {
  return html`<span class="path">${text}</span>`;
}

/** One line for a POSIX shell. */
export function commandLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}
