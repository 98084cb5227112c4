/**
 * The fault loop: every job that writes files, with a fault at its first file operation, at its second, ... until it ends without meeting one.
 *
 *   npm run build && npm run fault-loop -- [--jobs NAME,..] [--faults NAME,..] [--every N] [--json FILE]
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { renderTable } from '../../../src/cli/ui/table.js';
import { makeJobs } from './jobs.js';
import { FaultLoop, SERIES, type Tally, titleOf } from './loop.js';

const { values } = parseArgs({
  options: {
    jobs: { type: 'string' },
    faults: { type: 'string' },
    every: { type: 'string' },
    json: { type: 'string' },
  },
});
const chosen = (names: string | undefined, name: string): boolean => !names || names.split(';').includes(name);

const root = await mkdtemp(path.join(tmpdir(), 'wanq-faults-'));
const tallies: Tally[] = [];
const begun = performance.now();
try {
  const loop = new FaultLoop(root);
  const jobs = await makeJobs(path.join(root, 'inputs'), loop.place);
  for (const job of jobs.values()) {
    for (const series of SERIES) {
      if (!chosen(values.jobs, job.name) || !chosen(values.faults, titleOf(series))) continue;
      const tally = await loop.run(job, series, values.every === undefined ? {} : { every: Number(values.every) });
      tallies.push(tally);
      process.stderr.write(
        `${job.name}, ${titleOf(series)}: ${tally.tried} tried, ${tally.problems.length} problems\n`,
      );
      for (const problem of tally.problems) process.stderr.write(`  ${problem}\n`);
      // After every series: all of them take hours.
      await keep();
    }
  }
} finally {
  await rm(root, { recursive: true, force: true });
}
const seconds = secondsSince(begun);
const head = ['job', 'fault', 'one of', 'tried', 'absent', 'old', 'complete', 'unfinished', 'torn'];
const rows = tallies.map((tally) => [
  ...[tally.job, tally.fault],
  ...[tally.every, tally.tried, tally.absent, tally.old, tally.complete, tally.unfinished, tally.torn].map(String),
  ...[tally.leftover, tally.scratch, tally.unharmed].map(String),
  `${tally.succeeded} of ${tally.reruns}`,
  String(tally.problems.length),
]);
process.stdout.write(
  `${renderTable([...head, 'leftover', 'scratch', 'unharmed', 'reruns', 'problems'], rows, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])}\n`,
);
const sum = (of: (tally: Tally) => number): number => tallies.reduce((total, tally) => total + of(tally), 0);
const problems = sum(({ problems: found }) => found.length);
process.stdout.write(
  `${sum(({ tried }) => tried)} operations met, ${sum(({ reruns }) => reruns)} reruns, ${problems} problems, ${seconds.toFixed(0)} s\n`,
);
// Work that was stopped by a fault never ends.
process.exit(problems === 0 ? 0 : 1);

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}

async function keep(): Promise<void> {
  if (values.json === undefined) return;
  await writeFile(values.json, `${JSON.stringify({ seconds: secondsSince(begun), tallies }, null, 2)}\n`);
}
