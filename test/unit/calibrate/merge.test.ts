import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Calibration,
  type CalibrationIdentity,
  readCalibration,
  writeCalibration,
} from '../../../src/calibrate/file.js';
import { type HeldSettings, heldOfPrompt, heldPlaces } from '../../../src/calibrate/held.js';
import { mergeCalibrations } from '../../../src/calibrate/merge.js';
import { promptsOf, type Shard } from '../../../src/calibrate/shard.js';
import { ActivationStatistics, OutputStatistics } from '../../../src/calibrate/statistics.js';
import { randn } from '../../../src/numerics/rng.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const PROMPTS = 5;
const CHANNELS = 3;

const IDENTITY: CalibrationIdentity = {
  model: 'abc',
  inputs: 'prompts',
  prompts: 'def',
  promptCount: PROMPTS,
  seed: 42,
  steps: 20,
  guidance: 5.5,
  scheduler: 'UniPCMultistepScheduler',
  shape: [4, 5, 8, 8],
  buckets: 11,
  tokens: 'all',
  held: 12,
};

/** The tokens that a run of two steps keeps. */
const KEPT: HeldSettings = { ...IDENTITY, steps: 2 };

/** What the chains of these prompts leave in an activation; each prompt has its own scale, and slices that no other has. */
function statistics(value: string, prompts: readonly number[]): ActivationStatistics {
  const made = new ActivationStatistics(value, CHANNELS);
  for (const prompt of prompts) {
    for (const [branch, bucket, step] of [
      ['cond', 0, 0],
      ['uncond', 0, 0],
      ['cond', prompt + 1, 1],
      ['uncond', prompt + 1, 1],
    ] as const) {
      const sample = randn(prompt + 10 * bucket + value.length, 40 * CHANNELS).map((x) => x * 10 ** (prompt - 2));
      if (prompt === 3) sample[5] = Number.NaN;
      const column = (channel: number): number[] => [...sample].filter((_, i) => i % CHANNELS === channel);
      const over = (pick: (...values: number[]) => number): Float32Array =>
        Float32Array.from({ length: CHANNELS }, (_, channel) => pick(...column(channel)));
      const places = heldPlaces(KEPT, prompt, step, branch);
      const forward = { prompt, branch, bucket, places, heldOfPrompt: heldOfPrompt(KEPT, prompt) };
      made.add(forward, over(Math.min), over(Math.max), sample);
    }
  }
  return made;
}

function calibration(prompts: readonly number[], shard: Shard | null, changes: Partial<Calibration> = {}): Calibration {
  return {
    identity: IDENTITY,
    provider: 'cpu',
    runtimeVersion: '1.30.0',
    wanqVersion: '0.1.0',
    shard,
    done: prompts,
    activations: ['blocks.0/x', 'y'].map((value) => statistics(value, prompts)),
    outputs: ['z', 'finite'].map(
      (value) =>
        new OutputStatistics(
          value,
          Math.max(0, ...prompts.map((prompt) => (value === 'z' && prompt === 3 ? Infinity : prompt / 3))),
        ),
    ),
    ...changes,
  };
}

/** A folder of calibration files, named 0, 1, 2, ... */
async function written(
  calibrations: readonly Calibration[],
): Promise<{ folder: string; files: string[]; output: string }> {
  const folder = await temporaryFolder();
  const files = calibrations.map((_, i) => path.join(folder, `${i}.safetensors`));
  for (const [i, each] of calibrations.entries()) await writeCalibration(files[i] as string, each);
  return { folder, files, output: path.join(folder, 'merged.safetensors') };
}

const shards = (count: number): Calibration[] =>
  Array.from({ length: count }, (_, i) => {
    const shard: Shard = [i + 1, count];
    return calibration(promptsOf(shard, PROMPTS), shard);
  });

async function wholeBytes(): Promise<Buffer> {
  const { files } = await written([calibration(promptsOf(null, PROMPTS), null)]);
  return readFile(files[0] as string);
}

describe('mergeCalibrations', () => {
  it.each([1, 2, 3, 5])('makes of %i shards, in any order, the file of the run in one piece', async (count) => {
    const expected = await wholeBytes();
    const { folder, files } = await written(shards(count));
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(files, { minLength: count }), async (order) => {
        const output = path.join(folder, `merged${runs++}.safetensors`);
        const summary = await mergeCalibrations(order, output);
        expect(summary).toEqual({ output, prompts: PROMPTS, activations: 2 });
        expect((await readFile(output)).equals(expected)).toBe(true);
      }),
      { numRuns: count === 1 ? 1 : 6 },
    );
  });

  it('takes shards of any split, a whole run and one that was merged before', async () => {
    const expected = await wholeBytes();
    const uneven = [calibration([4, 0], [1, 2]), calibration([1], [2, 3]), calibration([2, 3], null)];
    const { folder, files, output } = await written(uneven);
    await mergeCalibrations(files, output);
    expect((await readFile(output)).equals(expected)).toBe(true);
    const again = path.join(folder, 'again.safetensors');
    await mergeCalibrations([output], again);
    expect((await readFile(again)).equals(expected)).toBe(true);
  });

  it('says that the result is of all prompts', async () => {
    const { files, output } = await written(shards(2));
    await mergeCalibrations(files.reverse(), output);
    const { done, shard } = await readCalibration(output);
    expect({ done, shard }).toEqual({ done: [0, 1, 2, 3, 4], shard: null });
  });

  it('has the kept tokens and the extremes of every fold of prompts', async () => {
    const { files, output } = await written(shards(3));
    await mergeCalibrations(files, output);
    const whole = statistics('y', promptsOf(null, PROMPTS));
    const merged = (await readCalibration(output)).activations[1] as ActivationStatistics;
    expect([...merged.held.keys()]).toEqual([0, 1, 2, 3, 4]);
    expect(merged.held).toEqual(whole.held);
    const tokens = [...merged.held.values()].map(({ length }) => length / CHANNELS);
    expect(tokens.reduce((a, b) => a + b, 0)).toBe(IDENTITY.held);
    expect(merged.folds).toEqual(whole.folds);
  });

  it('leaves the shards as they were', async () => {
    const { files, output } = await written(shards(2));
    const before = await Promise.all(files.map((file) => readFile(file)));
    await mergeCalibrations(files, output);
    for (const [i, file] of files.entries()) expect((await readFile(file)).equals(before[i] as Buffer)).toBe(true);
  });
});

describe('mergeCalibrations refuses, and writes nothing for,', () => {
  /** Expects a refusal that leaves the folder as it was. */
  async function expectNothingWritten(
    calibrations: readonly Calibration[],
    says: string,
    pick: (files: string[]) => string[] = (files) => files,
  ): Promise<void> {
    const { folder, files, output } = await written(calibrations);
    const before = await readdir(folder);
    await expect(mergeCalibrations(pick(files), output)).rejects.toMatchObject({
      name: 'WanqError',
      code: 'CALIBRATION_MISMATCH',
      message: expect.stringContaining(says),
    });
    expect(await readdir(folder)).toEqual(before);
  }

  it('a shard that is missing', async () => {
    await expectNothingWritten(
      shards(3),
      '2 of 5 prompts are in none of the files (the first is prompt 2)',
      (files) => [files[2] as string, files[0] as string],
    );
  });

  it('a shard that did not finish', async () => {
    const [first, second] = shards(2) as [Calibration, Calibration];
    const unfinished = { ...first, done: [0, 2], activations: calibration([0, 2], [1, 2]).activations };
    await expectNothingWritten([unfinished, second], '1 of 5 prompts are in none of the files (the first is prompt 5)');
  });

  it('a shard that is named twice', async () => {
    await expectNothingWritten(shards(2), 'both hold prompt 1', (files) => [...files, files[0] as string]);
  });

  it('shards that share a prompt', async () => {
    const sharing = [calibration([0, 1, 2], null), calibration([2, 3, 4], null)];
    await expectNothingWritten(sharing, 'both hold prompt 3');
  });

  it.each<[string, Partial<CalibrationIdentity>]>([
    ['model', { model: 'other' }],
    ['inputs', { inputs: 'synthetic' }],
    ['prompts', { prompts: 'other' }],
    ['promptCount', { promptCount: 6 }],
    ['seed', { seed: 43 }],
    ['steps', { steps: 21 }],
    ['guidance', { guidance: 5 }],
    ['scheduler', { scheduler: 'FlowMatchEulerDiscreteScheduler' }],
    ['shape', { shape: [4, 5, 8, 9] }],
    ['buckets', { buckets: 10 }],
    ['tokens', { tokens: 512 }],
    ['held', { held: 13 }],
  ])('shards of runs that differ in %s', async (field, change) => {
    const [first, second] = shards(2) as [Calibration, Calibration];
    const foreign = { ...second, identity: { ...IDENTITY, ...change } };
    await expectNothingWritten([first, foreign], `(it differs in ${field})`);
  });

  it.each<keyof Calibration>(['provider', 'runtimeVersion', 'wanqVersion'])(
    'shards made with another %s',
    async (field) => {
      const [first, second] = shards(2) as [Calibration, Calibration];
      await expectNothingWritten([first, { ...second, [field]: 'other' }], `(it differs in ${field})`);
    },
  );

  it.each<[string, (activations: readonly ActivationStatistics[]) => ActivationStatistics[]]>([
    ['fewer', (activations) => activations.slice(1)],
    ['more', (activations) => [...activations, statistics('z', [1, 3])]],
    ['other', ([first]) => [first as ActivationStatistics, statistics('z', [1, 3])]],
    ['reordered', (activations) => activations.toReversed()],
  ])('shards with %s activations', async (_, change) => {
    const [first, second] = shards(2) as [Calibration, Calibration];
    const foreign = { ...second, activations: change(second.activations) };
    await expectNothingWritten([first, foreign], '(it differs in activations)');
  });

  it('an output that is there already, before it reads anything', async () => {
    const { files } = await written(shards(2));
    const output = files[0] as string;
    const before = await readFile(output);
    await expectRejection(mergeCalibrations(['/nowhere.safetensors'], output), 'OUTPUT_EXISTS');
    expect((await readFile(output)).equals(before)).toBe(true);
  });

  it('no shards, a shard that is not there, and a file that is no calibration', async () => {
    const { folder, files, output } = await written(shards(2));
    await expectRejection(mergeCalibrations([], output), 'USAGE');
    await expectRejection(mergeCalibrations([...files, path.join(folder, 'absent')], output), 'NOT_FOUND');
    await expectRejection(mergeCalibrations([...files, import.meta.filename], output), 'SAFETENSORS_INVALID');
    expect(await readdir(folder)).toEqual(['0.safetensors', '1.safetensors']);
  });
});
