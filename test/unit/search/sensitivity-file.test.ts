import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  readFinishedSensitivity,
  readSensitivity,
  type Sensitivity,
  type SensitivityIdentity,
  writeSensitivity,
} from '../../../src/search/sensitivity-file.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const identity: SensitivityIdentity = {
  ...{ model: 'm', calibration: null, plan: 'p', prompts: 'q', seed: 1, steps: 2, guidance: 1 },
  ...{ scheduler: 'unipc', shape: [1, 2, 3, 4], provider: 'cpu' },
};
const units = [
  { section: 'linears', name: 'blocks.0.ffn.up' },
  { section: 'linears', name: 'blocks.0.ffn.down' },
  { section: 'groups', name: 'blocks.0.ffn' },
] as const;
const entry = { damage: 0.1, sqnr: 10, bytesSaved: 5, buckets: { 0: 0.1 }, noise: [0.1] };
const sensitivity: Sensitivity = {
  identity,
  samples: [{ prompt: 0, step: 1, branch: 'cond', timestep: 500, bucket: 0 }],
  linears: { 'blocks.0.ffn.up': entry, 'blocks.0.ffn.down': entry },
  groups: { 'blocks.0.ffn': entry },
};
const { provider: _, ...wanted } = identity;

let file: string;
beforeEach(async () => {
  file = path.join(await temporaryFolder(), 'sensitivity.json');
});

const write = (value: unknown): Promise<void> => writeFile(file, JSON.stringify(value));
const inFile = (changes: object): object => ({ schema: 1, ...sensitivity, ...changes });

describe('readSensitivity', () => {
  it('reads what was written, byte for byte the same when written again', async () => {
    await writeSensitivity(file, sensitivity);
    const bytes = await readFile(file);
    const found = (await readSensitivity(file, wanted, units)) as Sensitivity;
    expect(found).toMatchObject(sensitivity);
    await writeSensitivity(file, found);
    expect(await readFile(file)).toEqual(bytes);
  });

  it('has a line for each entry', async () => {
    await writeSensitivity(file, sensitivity);
    const lines = (await readFile(file, 'utf8')).split('\n');
    expect(lines.filter((line) => line.startsWith('    "blocks.0.'))).toHaveLength(3);
  });

  it('finds nothing where there is no file', async () => {
    expect(await readSensitivity(file, wanted, units)).toBeUndefined();
  });

  it('refuses a file of another measurement, naming what differs', async () => {
    await writeSensitivity(file, { ...sensitivity, identity: { ...identity, steps: 3, prompts: 'other' } });
    await expect(readSensitivity(file, wanted, units)).rejects.toMatchObject({
      code: 'SENSITIVITY_MISMATCH',
      message: expect.stringContaining('(it differs in prompts, steps)'),
    });
  });

  it('names the nearest where a person misspelt an entry', async () => {
    await write(inFile({ linears: { 'blocks.0.fnn.up': { damage: 1 } } }));
    await expect(readSensitivity(file, wanted, units)).rejects.toMatchObject({
      code: 'SENSITIVITY_INVALID',
      message: expect.stringContaining('linears has no "blocks.0.fnn.up"'),
      hint: expect.stringMatching(/^the nearest are blocks\.0\.ffn\.up/),
    });
  });

  it.each([
    ['no JSON', '{'],
    ['another schema', JSON.stringify(inFile({ schema: 2 }))],
    ['a negative damage', JSON.stringify(inFile({ linears: { 'blocks.0.ffn.up': { damage: -1 } } }))],
    ['a key it does not know', JSON.stringify(inFile({ linears: { 'blocks.0.ffn.up': { damage: 1, note: '' } } }))],
    [
      'more noise than samples',
      JSON.stringify(inFile({ linears: { 'blocks.0.ffn.up': { damage: 1, noise: [1, 1] } } })),
    ],
  ])('refuses %s', async (_, text) => {
    await writeFile(file, text);
    await expectRejection(readSensitivity(file, wanted, units), 'SENSITIVITY_INVALID');
  });
});

describe('readFinishedSensitivity', () => {
  const of = { model: 'm', calibration: null, plan: 'p' };

  it('takes one that was measured on other prompts and steps', async () => {
    await writeSensitivity(file, { ...sensitivity, identity: { ...identity, steps: 9, prompts: 'other' } });
    expect((await readFinishedSensitivity(file, of, units)).identity.steps).toBe(9);
  });

  it('refuses one of another plan', async () => {
    await writeSensitivity(file, { ...sensitivity, identity: { ...identity, plan: 'other' } });
    await expectRejection(readFinishedSensitivity(file, of, units), 'SENSITIVITY_MISMATCH');
  });

  it.each([
    ['an entry is missing', { linears: { 'blocks.0.ffn.up': entry } }],
    ['a sample is missing', { groups: { 'blocks.0.ffn': { ...entry, noise: [null] } } }],
  ])('refuses one that is not finished: %s', async (_, changes) => {
    await write(inFile(changes));
    await expectRejection(readFinishedSensitivity(file, of, units), 'SENSITIVITY_INVALID');
  });

  it('takes a damage that a person set', async () => {
    await write(inFile({ groups: { 'blocks.0.ffn': { damage: 3 } } }));
    expect((await readFinishedSensitivity(file, of, units)).groups['blocks.0.ffn']?.damage).toBe(3);
  });

  it('refuses a file that is not there', async () => {
    await expectRejection(readFinishedSensitivity(file, of, units), 'NOT_FOUND');
  });
});
