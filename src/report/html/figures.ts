import { formatMetric } from '../format.js';
import type { Interval } from '../results.js';
import { type Content, type Html, html } from './markup.js';

type Figure = number | null;

/** A figure with its unit: a dash where it was not measured, a sign where it is infinite. */
export function figure(value: Figure, unit = 'dB'): string {
  return formatMetric({ value, unit }).replace('Infinity', '∞').replace('NaN', 'not a number');
}

/** A number with as many digits as tell it from its neighbours. */
export function short(value: Figure): string {
  if (value === null) return '-';
  if (!Number.isFinite(value)) return figure(value, '');
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 0.001 || magnitude >= 100_000)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export function percent(share: Figure): string {
  if (share === null) return '-';
  const value = 100 * share;
  return `${value !== 0 && value < 0.01 ? Number(value.toPrecision(2)) : value.toFixed(2)} %`;
}

/** The ends, the unit once. */
export function intervalText({ low, high }: Pick<Interval, 'low' | 'high'>, unit: string): string {
  const ends = unit === '' ? figure(low, '') : figure(low, unit).slice(0, -unit.length - 1);
  return `${ends} .. ${figure(high, unit)}`;
}

/** How sure an interval is. */
export function levelText({ level }: Pick<Interval, 'level'>): string {
  return `${Number((100 * level).toFixed(1))} %`;
}

/** A cell of a table that can be sorted: by its number, however it is written. */
export function numberCell(value: Figure, text = figure(value, '')): Html {
  return html`<td class="number" data-value="${value === null ? '' : String(value)}">${text}</td>`;
}

export function textCell(text: Content): Html {
  return html`<td>${text}</td>`;
}

/** A cell of text that may be long: it shows the beginning, and the whole to those who point at it. */
export function longCell(text: string | null, className = ''): Html {
  return html`<td class="${className}"><div class="long" title="${text}">${text}</div></td>`;
}

/** Decibels in a column that says that it is of them. */
export function decibelCell(value: Figure): Html {
  return numberCell(value, figure(value).replace(' dB', ''));
}

/** Columns of a table that its readers may sort by. */
export interface Column {
  readonly name: string;
  /** What it says, for those who ask. */
  readonly help?: string | undefined;
  readonly number?: boolean;
}

/**
 * A table with a caption. Without the script its rows stay in the order in which they are.
 * @param id of its element; a table without one cannot be sorted
 */
export function table(
  caption: Content,
  columns: readonly Column[],
  rows: readonly Html[],
  { id, className = '' }: { readonly id?: string; readonly className?: string } = {},
): Html {
  const heads = columns.map(({ name, help, number }) => {
    const label = id === undefined ? name : html`<button type="button" class="sort">${name}</button>`;
    return html`<th scope="col"${number ? html` class="number"` : null}${help ? html` title="${help}"` : null}>${label}</th>`;
  });
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table${id ? html` id="${id}"` : null} class="${className}${id ? ' sortable' : ''}">
<caption>${caption}</caption>
<thead><tr>${heads}</tr></thead>
<tbody>
${rows.map((row) => html`${row}\n`)}</tbody></table></div>`;
}

/** A table of few rows, whose first column says what each is of. */
export function factsTable(caption: Content, head: readonly string[], rows: readonly (readonly Content[])[]): Html {
  return table(
    caption,
    head.map((name) => ({ name })),
    rows.map(([first, ...rest]) => html`<tr><th scope="row">${first}</th>${rest.map(textCell)}</tr>`),
  );
}

/** Figures of a chart, as text, for those who cannot see it or want to know exactly. */
export function chartFigures(caption: string, head: readonly string[], rows: readonly (readonly Content[])[]): Html {
  return html`<details class="figures"><summary>Figures</summary>${factsTable(caption, head, rows)}</details>`;
}
