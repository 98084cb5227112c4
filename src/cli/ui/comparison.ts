import { printable } from '../../errors.js';
import { FRONT_TEXT } from '../../report/compare-markdown.js';
import {
  COMPARED_COLUMNS,
  type ComparedCell,
  type Comparison,
  comparedCell,
  marksText,
  verdictCell,
} from '../../report/comparison.js';
import { formatBytes } from '../../report/format.js';
import { renderTable } from './table.js';

/** Two lines for each model, figures and what qualifies them; what the marks mean, and what else to know. */
export function comparisonText(comparison: Comparison): string {
  const { reference, models, notes } = comparison;
  const rows = models.flatMap((model) => {
    const cells = [...COMPARED_COLUMNS.map(({ metric }) => comparedCell(model, metric)), verdictCell(model.verdict)];
    const first = ({ mark, text }: ComparedCell): string => (mark === '' ? text : `${mark} ${text}`);
    const { front, name } = model;
    return [
      [front ? `${FRONT_MARK} ${name}` : name, ...cells.map(first)],
      ['', ...cells.map(({ detail }) => detail)],
    ];
  });
  const { path, transformerBytes, forwardMs, peakBytes, provider } = reference;
  const facts = `${formatBytes(transformerBytes)}, ${forwardMs.toFixed(1)} ms a forward, ${formatBytes(peakBytes)} of memory, on ${provider}`;
  return [
    `reference: ${printable(path)} (${facts})`,
    renderTable(
      ['model', ...COMPARED_COLUMNS.map(({ name }) => name), 'gate'],
      rows,
      COMPARED_COLUMNS.map((_, i) => i + 1),
    ),
    ...marksText(comparison),
    FRONT_TEXT,
    ...notes.map((note) => `note: ${printable(note, 1000)}`),
  ].join('\n');
}

const FRONT_MARK = FRONT_TEXT.slice(0, 1);
