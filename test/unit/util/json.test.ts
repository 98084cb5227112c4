import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readJson } from '../../../src/util/json.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const schema = z.object({ steps: z.array(z.object({ n: z.number() })) });

async function fileWith(text: string): Promise<string> {
  const file = path.join(await temporaryFolder(), 'file.json');
  await writeFile(file, text);
  return file;
}

describe('readJson', () => {
  it('reads what fits the schema', async () => {
    expect(await readJson(await fileWith('{"steps":[{"n":1}]}'), schema, 'CONFIG_INVALID')).toEqual({
      steps: [{ n: 1 }],
    });
  });

  it('names the file and the place of the first thing that is wrong', async () => {
    const file = await fileWith('{"steps":[{"n":1},{"n":"two"}]}');
    await expect(readJson(file, schema, 'CONFIG_INVALID')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/file\.json: steps\.1\.n: /),
    });
    await expect(readJson(await fileWith('3'), schema, 'RULES_INVALID')).rejects.toMatchObject({
      code: 'RULES_INVALID',
      message: expect.stringContaining('the top level'),
    });
  });

  it('refuses what is not JSON, and what is not there', async () => {
    await expectRejection(readJson(await fileWith('{'), schema, 'CONFIG_INVALID'), 'CONFIG_INVALID');
    await expectRejection(readJson('/nowhere.json', schema, 'CONFIG_INVALID'), 'NOT_FOUND');
  });
});
