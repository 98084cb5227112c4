/**
 * The kill loop: commands ended by SIGKILL at random moments and run again until they are done.
 *
 *   npm run build && npm run kill-loop -- [--kills 200] [--seed 1] [--jobs "calibrate;quantize"] [--json FILE]
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { renderTable } from '../../../src/cli/ui/table.js';
import { makeKilledJobs } from './jobs.js';
import { type KilledJob, KillLoop, type KillTally } from './loop.js';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: 'calibrate;quantize' },
    json: { type: 'string' },
  },
});
const names = values.jobs.split(';');
const root = await mkdtemp(path.join(tmpdir(), 'wanq-kills-'));
const tallies: KillTally[] = [];
try {
  const jobs = await makeKilledJobs(path.join(root, 'inputs'));
  const loop = new KillLoop(root, Number(values.seed));
  for (const [i, name] of names.entries()) {
    const job = jobs.get(name);
    if (!job) throw new Error(`no job is named ${name}; there are ${[...jobs.keys()].join(', ')}`);
    tallies.push(await loop.run(job as KilledJob, share(Number(values.kills), i, names.length)));
    for (const problem of tallies.at(-1)?.problems ?? []) process.stderr.write(`${name}: ${problem}\n`);
  }
} finally {
  await rm(root, { recursive: true, force: true });
}
const head = ['kills', 'groups', 'withCheckpoint', 'absent', 'complete', 'finished', 'takenOver'] as const;
const tail = ['mismatches', 'leftovers', 'scratch', 'survivors'] as const;
const columns = [...head, ...tail];
process.stdout.write(
  `${renderTable(
    ['job', 'undisturbed, s', ...columns],
    tallies.map((tally) => [
      tally.job,
      (tally.ms / 1000).toFixed(1),
      ...columns.map((column) => String(tally[column])),
    ]),
    [...columns.keys(), columns.length].map((i) => i + 1),
  )}\n`,
);
const problems = tallies.reduce((sum, tally) => sum + tally.problems.length, 0);
process.stdout.write(`seed ${values.seed}, ${problems} problems\n`);
if (values.json !== undefined)
  await writeFile(values.json, `${JSON.stringify({ seed: Number(values.seed), tallies }, null, 2)}\n`);
process.exitCode = problems === 0 ? 0 : 1;

function share(total: number, i: number, parts: number): number {
  return Math.floor(((i + 1) * total) / parts) - Math.floor((i * total) / parts);
}
