import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { type CalibrateOptions, type CalibrationSummary, calibrate } from '../../../src/calibrate/calibrate.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();

function run(name: string, changes: Partial<CalibrateOptions> = {}): Promise<CalibrationSummary> {
  return calibrate({
    pipeline: MICRO_PIPELINE,
    syntheticInputs: 2,
    negativePrompt: '',
    steps: 2,
    guidance: 5,
    seed: 0,
    output: path.join(folder, name),
    buckets: 4,
    tokens: 20,
    device: 'cpu',
    ...changes,
  });
}

it('refuses a limit below what it needs, naming the figure and writing nothing', async () => {
  const error = await run('refused', { maxMemory: 1e6 }).catch((reason) => reason);
  expect(error).toMatchObject({ code: 'NO_MEMORY', exitCode: 5, hint: expect.stringContaining('--max-memory') });
  expect(error.message).toMatch(
    /needs about \d+ MB, run block by block: \d+ MB for activations and statistics, 2 MB for/,
  );
  expect(existsSync(path.join(folder, 'refused'))).toBe(false);
});

it('refuses a text encoder that does not fit', async () => {
  const error = await run('encoder', { maxMemory: 1e6, syntheticInputs: undefined, prompts: ['a'] }).catch((e) => e);
  expect(error).toMatchObject({ code: 'NO_MEMORY', message: expect.stringContaining('the text encoder needs') });
});

it('foresees no less memory than the run takes', async () => {
  const { estimatedBytes, peakBytes } = await run('estimated');
  expect(estimatedBytes).toBeGreaterThan(peakBytes);
});
