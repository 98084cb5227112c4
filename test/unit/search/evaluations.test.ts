import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Metric } from '../../../src/report/results.js';
import { type EvaluationSettings, Evaluations } from '../../../src/search/evaluations.js';
import { contentHash } from '../../../src/util/hash.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const settings: EvaluationSettings = {
  ...{ model: 'm', plan: 'p', calibration: null, prompts: ['a'], negativePrompt: '', seedsPerPrompt: 1, seed: 1 },
  ...{ steps: 2, guidance: 1, sigmas: [0.5], inspected: 1, shape: [1, 2, 3, 4], device: 'cpu', deviceReference: null },
  ...{ clips: null, features: null, perceptual: null, deviceVae: null },
};
const metrics: Record<string, Metric> = {
  sqnr: { value: 40, unit: 'dB', better: 'higher', n: 4 },
  psnr: { value: Number.POSITIVE_INFINITY, unit: 'dB', better: 'higher', n: 1 },
  fvd_growth: { value: null, unit: '', better: 'lower', n: 0, note: 'no network' },
};

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

describe('Evaluations', () => {
  it('keeps metrics, infinite and missing ones too, from one opening to the next', async () => {
    const first = await Evaluations.open(folder, settings);
    expect(first.get([])).toBeUndefined();
    await first.set([], metrics);
    await first.set(['blocks.0.ffn.up'], { sqnr: metrics.sqnr as Metric });
    const second = await Evaluations.open(folder, settings);
    expect(second.get([])).toEqual(metrics);
    expect(second.get(['blocks.0.ffn.up'])?.sqnr?.value).toBe(40);
    expect(second.get(['blocks.0.ffn.down'])).toBeUndefined();
  });

  it('keeps those of other settings apart', async () => {
    await (await Evaluations.open(folder, settings)).set([], metrics);
    const other = await Evaluations.open(folder, { ...settings, steps: 3 });
    expect(other.get([])).toBeUndefined();
    await other.set([], metrics);
    expect(await readdir(folder)).toHaveLength(2);
  });

  it('refuses a file that is damaged', async () => {
    await (await Evaluations.open(folder, settings)).set([], metrics);
    const [name] = await readdir(folder);
    await writeFile(path.join(folder, name as string), '{');
    await expectRejection(Evaluations.open(folder, settings), 'CACHE_INVALID');
  });
});

describe('contentHash', () => {
  it('changes with the bytes of a file and with the files of a folder', async () => {
    const inner = path.join(folder, 'network');
    await mkdir(inner);
    const file = path.join(inner, 'model.onnx');
    await writeFile(file, 'one');
    const before = [await contentHash(file), await contentHash(inner)];
    expect([await contentHash(file), await contentHash(inner)]).toEqual(before);
    await writeFile(file, 'two');
    const after = [await contentHash(file), await contentHash(inner)];
    expect(after[0]).not.toBe(before[0]);
    expect(after[1]).not.toBe(before[1]);
  });

  it('says so where nothing is there', async () => {
    await expectRejection(contentHash(path.join(folder, 'missing')), 'NOT_FOUND');
  });
});
