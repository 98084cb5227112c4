import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Results, readResults, resultsToJson } from '../../../src/report/results.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';
import { COMPONENTS, results } from './fixture.js';

async function file(text: string): Promise<string> {
  const target = path.join(await temporaryFolder(), 'results.json');
  await writeFile(target, text);
  return target;
}

const changed = (change: Record<string, unknown>): string =>
  JSON.stringify({ ...JSON.parse(resultsToJson(results())), ...change });

describe('results', () => {
  it('come back from JSON as they were, infinities, NaN and missing figures included', async () => {
    expect(await readResults(await file(resultsToJson(results())))).toEqual(results());
  });

  it('come back with the drift of components, and without where there is none', async () => {
    const drifted = results({ components: COMPONENTS });
    expect(await readResults(await file(resultsToJson(drifted)))).toEqual(drifted);
    expect(resultsToJson(results())).not.toContain('components');
  });

  it('are JSON that any reader takes, with a newline at the end', () => {
    const text = resultsToJson(results());
    const parsed = JSON.parse(text) as Results;
    expect(parsed.metrics.psnr?.value).toBe('Infinity');
    expect(parsed.metrics.sqnr_min?.value).toBe('-Infinity');
    expect(parsed.metrics.cosine_min?.value).toBe('NaN');
    expect(parsed.metrics.fvd_growth?.value).toBeNull();
    expect(text.endsWith('}\n')).toBe(true);
  });

  it.each([1, 3, 0, '2', null])('are refused with the schema %s, by name', async (schema) => {
    await expect(readResults(await file(changed({ schema })))).rejects.toMatchObject({
      code: 'RESULTS_INVALID',
      message: expect.stringContaining(`schema ${schema}`),
    });
  });

  it.each<[string, string]>([
    ['text', 'not JSON'],
    ['a list', '[]'],
    ['another object', '{"schema":1}'],
    ['a schema that has no text', '{"schema":{"toString":1,"valueOf":1}}'],
    ['a schema that is a list of such', '{"schema":[{"toString":1,"valueOf":1}]}'],
    ['without a schema', changed({ schema: undefined })],
    ['an unknown key', changed({ extra: 1 })],
    ['a figure in text', changed({ metrics: { psnr: { value: '12', unit: 'dB', better: null, n: 1 } } })],
    ['a branch that does not exist', changed({ steps: [{ ...results().steps[0], branch: 'other' }] })],
    ['half a drift', changed({ components: { ...COMPONENTS, videos: [{ prompt: 'a' }] } })],
    ['half a video', changed({ videos: [{ prompt: 'a', seed: 1 }] })],
  ])('are refused where they are %s', async (_, text) => {
    await expectRejection(readResults(await file(text)), 'RESULTS_INVALID');
  });

  it('are refused where they are missing', async () => {
    await expectRejection(readResults('/nowhere/results.json'), 'NOT_FOUND');
  });
});
