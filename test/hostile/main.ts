/**
 * The table of docs/reliability.md: runs every case that concerns a command line, and its control.
 *
 *   npm run build && npm run reliability -- [--only ID,..] [--jobs N] [--fuzz FILE] [--faults FILE] [--kills FILE]
 *
 * With --only, or where --dry is given, the document stays as it is. The files are what `npm run fuzz`, `fault-loop` and `kill-loop` write with --json.
 */
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '../helpers/fixtures.js';
import { ROWS } from './cases/index.js';
import { documentOf, type TableRow, type Totals } from './lib/document.js';
import { sectionsOf } from './lib/figures.js';
import { WANQ } from './lib/run.js';
import { CaseRunner } from './lib/runner.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    fuzz: { type: 'string' },
    faults: { type: 'string' },
    kills: { type: 'string' },
    dry: { type: 'boolean', default: false },
  },
});

if (!existsSync(path.join(ROOT, 'dist', 'cli', 'main.js'))) throw new Error(`${WANQ} is not built: npm run build`);
const sections = sectionsOf(values);
const wanted = values.only?.split(',');
const chosen = ROWS.filter(
  ({ id }) => wanted?.some((name) => id === name || id.replace(/[a-z]+$/, '') === name) ?? true,
);
const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'wanq-reliability-')));
const runner = new CaseRunner(root);
const rows: TableRow[] = new Array(chosen.length);
const queue = [...chosen.entries()];
try {
  await Promise.all(
    Array.from({ length: Number(values.jobs) }, async () => {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const [i, row] = next;
        const { faults, ...shown } = await runner.look(row);
        rows[i] = shown;
        if (faults.length > 0)
          process.stderr.write(`${row.id} ${row.what}\n${faults.map((fault) => `    ${fault}\n`).join('')}`);
      }
    }),
  );
} finally {
  rmSync(root, { recursive: true, force: true });
}
const totals: Totals = {
  ...runner.totals,
  rows: rows.length,
  notRun: rows.filter(({ ok }) => ok === null).length,
  failed: rows.filter(({ ok }) => ok === false).length,
};
process.stdout.write(`${JSON.stringify(totals)}\n`);
if (wanted === undefined && !values.dry) {
  writeFileSync(path.join(ROOT, 'docs', 'reliability.md'), documentOf(rows, totals, sections));
}
process.exitCode = totals.failed === 0 ? 0 : 1;
