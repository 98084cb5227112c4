import { existsSync, readFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { until, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const SHARDS = [1, 2, 3, 4].map((i) => `shard-${i}`);
const prompts = ['red circle', 'green ring', 'blue square', 'white diamond', 'cyan triangle'].map(
  (what) => `a ${what}`,
);
const calibrate = (output: string, ...more: string[]): string[] => [
  ...[
    'calibrate',
    MICRO_PIPELINE,
    '--prompts',
    'prompts.txt',
    '--steps',
    '6',
    '--device',
    'cpu',
    '-o',
    output,
    ...more,
  ],
];
const bytes = (name: string): Buffer => readFileSync(place.path(name));

beforeAll(async () => {
  place.write('prompts.txt', prompts.join('\n'));
  await place.succeed(calibrate('whole'));
  for (const [i, name] of SHARDS.entries()) await place.succeed(calibrate(name, '--shard', `${i + 1}/4`));
}, 120_000);

it('merged in any order are what one run writes, byte for byte', async () => {
  const { stdout } = await place.succeed(['merge', ...SHARDS.toReversed(), '-o', 'merged']);
  expect(stdout).toBe('merged: 43 activations over 5 prompts\n');
  expect(bytes('merged').equals(bytes('whole'))).toBe(true);
});

it('killed and started again end with the same bytes', async () => {
  const args = calibrate('killed', '--shard', '1/2');
  const running = place.start(args);
  await until(() => existsSync(place.path('killed.partial')));
  running.child.kill('SIGKILL');
  await running.outcome;
  await place.succeed(args);
  await place.succeed(calibrate('other', '--shard', '2/2'));
  await place.succeed(['merge', 'killed', 'other', '-o', 'rejoined']);
  expect(bytes('rejoined').equals(bytes('whole'))).toBe(true);
});

it.each<[string, string[], RegExp]>([
  ['one left out', SHARDS.slice(1), /2 of 5 prompts are in none of the files .*\[CALIBRATION_MISMATCH\]/],
  ['one named twice', [...SHARDS, 'shard-2'], /shard-2 and shard-2 both hold prompt 2: .*\[CALIBRATION_MISMATCH\]/],
  ['one that is missing', [...SHARDS.slice(1), 'none'], /none does not exist: .*\[NOT_FOUND\]/],
])('with %s are refused', async (_, shards, said) => {
  const before = place.listing();
  const { code, stderr } = await place.wanq(['merge', ...shards, '-o', 'refused']);
  expect(stderr).toMatch(said);
  expect(code).toBeGreaterThan(1);
  expect(place.listing()).toEqual(before);
});

it('of two runs are refused', async () => {
  await place.succeed(calibrate('seeded', '--shard', '1/4', '--seed', '9'));
  const { code, stderr } = await place.wanq(['merge', 'seeded', ...SHARDS.slice(1), '-o', 'refused']);
  expect(stderr).toMatch(
    /shard-2 is no shard of the run that seeded is of \(it differs in seed\): .*\[CALIBRATION_MISMATCH\]/,
  );
  expect(code).toBe(2);
});

it('are no calibration by themselves', async () => {
  const args = ['quantize', MICRO_PIPELINE, '--calibration', 'shard-1', '-o', 'out'];
  const { code, stderr } = await place.wanq(args);
  expect(stderr).toMatch(/shard-1 is shard 1\/4 \(2 of 5 prompts\): join all shards with `wanq merge` first/);
  expect(code).toBe(2);
});

it('without a prompt are refused', async () => {
  const { code, stderr } = await place.wanq(calibrate('empty', '--shard', '6/6'));
  expect(stderr).toMatch(/shard 6\/6 has no prompt: there are 5: use at most 5 shards \[USAGE\]/);
  expect(code).toBe(2);
});
