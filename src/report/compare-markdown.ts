import { printable } from '../errors.js';
import {
  COMPARED_COLUMNS,
  type ComparedCell,
  type Comparison,
  comparedCell,
  differenceText,
  marksText,
  verdictCell,
} from './comparison.js';
import { formatBytes } from './format.js';
import { relativeUrl } from './links.js';
import { table } from './markdown.js';

/** The comparison for people who open its folder on a code host. */
export function comparisonMarkdown(comparison: Comparison): string {
  const { reference, settings, models, notes } = comparison;
  const differences = differenceRows(comparison);
  return [
    `# ${models.length} quantized models against one reference`,
    '',
    table(
      ['model', ...COMPARED_COLUMNS.map(({ name }) => name), 'gate'],
      models.map((model) => [
        `${model.front ? '◆ ' : ''}${model.name}`,
        ...COMPARED_COLUMNS.map(({ metric }) => oneLine(comparedCell(model, metric))),
        oneLine(verdictCell(model.verdict)),
      ]),
    ),
    '',
    ...marksText(comparison).flatMap((line) => [line.replace(/^[*~]/, '`$&`'), '']),
    FRONT_TEXT,
    '',
    ...notes.flatMap((note) => [escaped(note), '']),
    ...(differences.length === 0
      ? []
      : [
          '## Differences to the best',
          '',
          table(['metric', 'model', 'best', 'difference', 'pairs', 'told apart'], differences),
          '',
        ]),
    '## Models',
    '',
    table(
      ['', 'folder', 'transformer', 'ran on', 'report'],
      [
        ['reference', reference.path, formatBytes(reference.transformerBytes), reference.provider, ''],
        ...models.map(({ name, model, report }) => {
          const url = relativeUrl(report);
          const link = url === undefined ? report : `[report](${url})`;
          return [name, model.path, formatBytes(model.transformerBytes), model.provider, link];
        }),
      ],
    ),
    '',
    `${settings.prompts} prompts x ${settings.seedsPerPrompt} seeds from ${settings.seed}, ${settings.steps} steps of ${escaped(settings.scheduler)}, ` +
      `guidance ${settings.guidance}, latents ${settings.latents.join(' x ')}, clips: ${escaped(settings.clips)}, features: ` +
      `${escaped(settings.features ?? 'none')}, noise floor: ${escaped(settings.noiseFloor)}. wanq ${comparison.wanqVersion}.`,
    '',
  ].join('\n');
}

export const FRONT_TEXT = '◆: no other model is both smaller and better by SQNR.';

/** A row for each metric and model that is not the best; the last cell says whether chance may be all of it. */
export function differenceRows({ models }: Comparison): string[][] {
  return COMPARED_COLUMNS.flatMap(({ name: title, metric }) =>
    models.flatMap(({ name, figures }) => {
      const { toBest, unit, standing } = figures[metric];
      if (!toBest) return [];
      const told = standing === null ? '-' : standing === 'worse' ? 'yes' : 'no';
      return [[title, name, toBest.best, differenceText(toBest, unit), String(toBest.pairs ?? 'not paired'), told]];
    }),
  );
}

function oneLine({ mark, text, detail }: ComparedCell): string {
  return [mark, text, detail && `(${detail})`].filter(Boolean).join(' ');
}

/** Other people's text: nothing of it is markup. */
function escaped(text: string): string {
  return printable(text, 10_000)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replace(/[\\`*_[\]|]/g, '\\$&');
}
