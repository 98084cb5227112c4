import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { machine } from './measure.js';
import { ROOT } from './paths.js';

/** A row of a table: columns in order. null is a figure that was not measured. */
export type Row = Readonly<Record<string, string | number | null>>;

export interface Report {
  readonly title: string;
  /** What makes it again. */
  readonly command: string;
  /** All with the columns of the first. */
  readonly rows: readonly Row[];
  readonly notes?: readonly string[];
}

/** Writes `reports/bench/NAME.json` and prints the same as Markdown. Figures are printed with four digits and kept with all. */
export async function report(name: string, { title, command, rows, notes = [] }: Report): Promise<void> {
  const here = machine();
  const file = path.join(ROOT, 'reports', 'bench', `${name}.json`);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify({ title, command, machine: here, rows, notes }, null, 2)}\n`);
  const columns = Object.keys(rows[0] ?? {});
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const table = [
    line(columns),
    line(columns.map((column) => (typeof rows[0]?.[column] === 'number' ? '---:' : '---'))),
    ...rows.map((row) => line(columns.map((column) => show(row[column])))),
  ];
  const { cpu, cores, memoryGB, kernel, node, date } = here;
  const where = `${cpu}, ${cores} cores, ${memoryGB} GB; Linux ${kernel}, Node ${node}; ${date}; \`${command}\``;
  console.log([`## ${title}`, '', where, '', ...table, '', ...notes.map((note) => `- ${note}`)].join('\n'));
}

function show(value: string | number | null | undefined): string {
  if (typeof value === 'number') return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  return value ?? '-';
}
