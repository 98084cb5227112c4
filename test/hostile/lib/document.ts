import { MEMORY_LIMIT, TIME_LIMIT } from './run.js';

/** What one row of the table says. */
export interface TableRow {
  readonly id: string;
  readonly what: string;
  readonly commands: string;
  readonly expected: string;
  readonly seen: string;
  readonly ok: boolean | null;
}

export interface Totals {
  readonly rows: number;
  readonly commands: number;
  readonly controls: number;
  readonly notRun: number;
  readonly failed: number;
  readonly slowestMs: number;
  readonly mostOverControl: number;
}

/** A section of figures that another command measured. */
export interface Section {
  readonly title: string;
  readonly text: string;
}

export function documentOf(rows: readonly TableRow[], totals: Totals, sections: readonly Section[]): string {
  const table = rows.map(({ id, what, commands, expected, seen, ok }) =>
    ['', id, what, commands, expected, seen, ok === null ? 'not run' : ok ? 'yes' : 'NO', '']
      .map((cell, i, all) => (i === 0 || i === all.length - 1 ? '' : ` ${escapedCell(cell)} `))
      .join('|'),
  );
  return `# Reliability: what was tried, and what was seen

Written by \`npm run build && npm run reliability\`; not to be edited by hand. What is promised, and what is not, says [security.md](security.md).

Each case makes an input that wants to do harm, in a folder of its own, and runs the real command line on it in a process of its own, with its own home, folder for temporary files and working
folder. Beside it stands a control: the same command on the same input without what is hostile, which must succeed. A command passes where

- it ends as expected: \`ok\`, a failed gate (\`fails\`), or an error of wanq's own with the exit code of its name, in one line and with nothing on stdout;
- it prints no stack trace, no control character, no command of a CI job and nothing of files that it was not given;
- it takes no more than ${TIME_LIMIT / 1000} s, and no more than ${MEMORY_LIMIT / 2 ** 20} MB above its control, all of its processes together;
- it changes and leaves nothing but its named output, and where it fails, nothing at all; no process of it is left.

Where several ends are expected, either is safe, and which one it is depends on the command: not all of them read everything. Several ends under "seen" are those of the commands in their order.

## The table

| case | input | command | expected | seen | ok |
| --- | --- | --- | --- | --- | --- |
${table.join('\n')}

${totals.rows} rows, ${totals.commands} commands beside ${totals.controls} controls; ${totals.failed} rows are not as expected, ${totals.notRun} were not run.
The slowest command took less than ${Math.max(1, Math.ceil(totals.slowestMs / 1000))} s of computing, the largest less than ${64 * Math.max(1, Math.ceil(totals.mostOverControl / 2 ** 26))} MB above its control.
${sections.map(({ title, text }) => `\n## ${title}\n\n${text}\n`).join('')}`;
}

/** Text as a cell of a table holds it. */
function escapedCell(text: string): string {
  return text
    .replace(/[|]/g, '\\|')
    .replace(/</g, '&lt;')
    .replace(/[\r\n]+/g, ' ');
}
