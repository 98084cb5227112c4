import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { table } from '../../../src/report/markdown.js';
import type { Section } from './document.js';

const fuzzFile = z.looseObject({
  seed: z.number(),
  kinds: z.record(
    z.string(),
    z.looseObject({
      tally: z.looseObject({
        inputs: z.number(),
        accepted: z.number(),
        rejected: z.record(z.string(), z.number()),
        slowest: z.looseObject({ ms: z.number() }),
        findings: z.array(z.unknown()),
      }),
      crashes: z.number(),
      hangs: z.number(),
      overMemory: z.number(),
    }),
  ),
});

const faultsFile = z.looseObject({
  tallies: z.array(
    z.looseObject({
      job: z.string(),
      fault: z.string(),
      every: z.number(),
      tried: z.number(),
      absent: z.number(),
      old: z.number(),
      complete: z.number(),
      unfinished: z.number(),
      torn: z.number(),
      reruns: z.number(),
      succeeded: z.number(),
      problems: z.array(z.unknown()),
    }),
  ),
});

const killsFile = z.looseObject({
  seed: z.number(),
  tallies: z.array(
    z.looseObject({
      job: z.string(),
      kills: z.number(),
      withCheckpoint: z.number(),
      finished: z.number(),
      mismatches: z.number(),
      leftovers: z.number(),
      survivors: z.number(),
      problems: z.array(z.unknown()),
    }),
  ),
});

const NOT_RUN = 'Not run for this table.';

/** Sections of the other machinery, of what it wrote with `--json`. */
export function sectionsOf(files: {
  fuzz?: string | undefined;
  faults?: string | undefined;
  kills?: string | undefined;
}): Section[] {
  return [
    {
      title: 'Mutated models and files',
      text: files.fuzz === undefined ? NOT_RUN : fuzzText(read(files.fuzz, fuzzFile)),
    },
    {
      title: 'A fault at every file operation',
      text: files.faults === undefined ? NOT_RUN : faultsText(read(files.faults, faultsFile)),
    },
    {
      title: 'SIGKILL at random moments',
      text: files.kills === undefined ? NOT_RUN : killsText(read(files.kills, killsFile)),
    },
  ];
}

const texts = (rows: readonly (readonly (string | number)[])[]): string[][] => rows.map((cells) => cells.map(String));

function read<T>(file: string, schema: z.ZodType<T>): T {
  return schema.parse(JSON.parse(readFileSync(file, 'utf8')));
}

function fuzzText({ seed, kinds }: z.infer<typeof fuzzFile>): string {
  const rows = Object.entries(kinds).map(([kind, { tally, crashes, hangs, overMemory }]) => [
    kind,
    tally.inputs,
    tally.accepted,
    Object.values(tally.rejected).reduce((sum, count) => sum + count, 0),
    Object.entries(tally.rejected)
      .sort(([, a], [, b]) => b - a)
      .map(([code, count]) => `${code} ${count}`)
      .join(', '),
    tally.findings.length - crashes - hangs - overMemory,
    crashes,
    hangs,
    overMemory,
    `${(tally.slowest.ms / 1000).toFixed(1)} s`,
  ]);
  const head = [
    'kind',
    'mutated',
    'taken',
    'refused',
    'by code',
    'other defects',
    'crashes',
    'hangs',
    'too large',
    'slowest',
  ];
  return `\`npm run fuzz\`, seed ${seed}: each was loaded and planned, and taken or refused with a code.\n\n${table(head, texts(rows))}`;
}

function faultsText({ tallies }: z.infer<typeof faultsFile>): string {
  const rows = tallies.map((of) => [
    of.job,
    of.fault,
    of.every === 1 ? of.tried : `${of.tried}, one of ${of.every}`,
    of.absent,
    of.old,
    of.complete,
    of.unfinished,
    of.torn,
    `${of.succeeded} of ${of.reruns}`,
    of.problems.length,
  ]);
  const tried = tallies.reduce((sum, of) => sum + of.tried, 0);
  const head = [
    ...['job', 'fault', 'operations', 'absent', 'old', 'complete', 'unfinished', 'torn'],
    ...['reruns that succeed', 'problems'],
  ];
  return `\`npm run fault-loop\`: ${tried} operations were made to fail, one at a time or from one on. Then the output is absent, old or complete; unfinished state beside it is one that an undisturbed run has on its way. For each state of the folder that was seen the same command was run again.\n\n${table(head, texts(rows))}`;
}

function killsText({ seed, tallies }: z.infer<typeof killsFile>): string {
  const rows = tallies.map((of) => [
    of.job,
    of.kills,
    of.withCheckpoint,
    of.finished,
    of.mismatches,
    of.leftovers,
    of.survivors,
    of.problems.length,
  ]);
  const head = [
    ...['job', 'kills', 'with a checkpoint left', 'runs to the end', 'outputs that differ', 'files left'],
    ...['processes left', 'problems'],
  ];
  return `\`npm run kill-loop\`, seed ${seed}: a command that was killed is run again until it ends; its output must be that of a run that nobody disturbed, bit for bit.\n\n${table(head, texts(rows))}`;
}
