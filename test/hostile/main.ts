/**
 * The table of docs/reliability.md: runs every case that concerns a command line, and its control.
 *
 *   npm run build && npm run reliability -- [--only ID,..] [--jobs N] [--rows FILE] [--fuzz FILE] [--faults FILE] [--kills FILE]
 *
 * --rows keeps what was seen in a file: with --only, the rows that it does not name are those of the file (--only none: all of them), and without
 * that file the document stays as it is. The other files are what `npm run fuzz`, `fault-loop` and `kill-loop` write with --json.
 */
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '../helpers/fixtures.js';
import { ROWS } from './cases/index.js';
import { documentOf, type Totals } from './lib/document.js';
import { sectionsOf } from './lib/figures.js';
import { WANQ } from './lib/run.js';
import { CaseRunner, type LookedAt } from './lib/runner.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    fuzz: { type: 'string' },
    faults: { type: 'string' },
    kills: { type: 'string' },
    rows: { type: 'string' },
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
interface Kept {
  readonly controls: number;
  readonly rows: Readonly<Record<string, LookedAt>>;
}
const kept: Kept | undefined =
  wanted && values.rows !== undefined && existsSync(values.rows)
    ? (JSON.parse(readFileSync(values.rows, 'utf8')) as Kept)
    : undefined;
const seen = new Map<string, LookedAt>(Object.entries(kept?.rows ?? {}));
const queue = [...chosen];
try {
  await Promise.all(
    Array.from({ length: Number(values.jobs) }, async () => {
      for (let row = queue.shift(); row; row = queue.shift()) {
        const found = await runner.look(row);
        seen.set(row.id, found);
        if (found.faults.length > 0) {
          process.stderr.write(`${row.id} ${row.what}\n${found.faults.map((fault) => `    ${fault}\n`).join('')}`);
        }
      }
    }),
  );
} finally {
  rmSync(root, { recursive: true, force: true });
}
const rows = ROWS.flatMap(({ id }) => seen.get(id) ?? []);
const totals: Totals = {
  rows: rows.length,
  commands: rows.reduce((sum, { runs }) => sum + runs, 0),
  controls: Math.max(runner.controls, kept?.controls ?? 0),
  slowestMs: Math.max(0, ...rows.map(({ slowestMs }) => slowestMs)),
  mostOverControl: Math.max(0, ...rows.map(({ overControl }) => overControl)),
  notRun: rows.filter(({ ok }) => ok === null).length,
  failed: rows.filter(({ ok }) => ok === false).length,
};
process.stdout.write(`${JSON.stringify(totals)}\n`);
if (values.rows !== undefined) {
  writeFileSync(values.rows, JSON.stringify({ controls: totals.controls, rows: Object.fromEntries(seen) }));
}
if (rows.length === ROWS.length) {
  writeFileSync(path.join(ROOT, 'docs', 'reliability.md'), documentOf(rows, totals, sections));
}
process.exitCode = totals.failed === 0 ? 0 : 1;
