import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { MAX_JSON_BYTES, MAX_JSON_DEPTH, MAX_JSON_VALUES } from '../../../src/limits.js';
import { parseJson, readJson } from '../../../src/util/json.js';
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

describe('parseJson takes', () => {
  it.each<[string, string, unknown]>([
    [
      'keys that an object has by birth',
      '{"constructor":1,"prototype":2,"toString":3}',
      { constructor: 1, prototype: 2, toString: 3 },
    ],
    ['the same key in two objects', '[{"a":1},{"a":2}]', [{ a: 1 }, { a: 2 }]],
    ['the same text as key and value', '{"a":"a","b":["a","a"]}', { a: 'a', b: ['a', 'a'] }],
    ['brackets, commas and quotes in texts', '{"[{,\\"":"]}\\\\"}', { '[{,"': ']}\\' }],
    ['a pair of surrogates, escaped', '"\\ud83d\\ude00"', '😀'],
    ['as many levels as are allowed', `${'['.repeat(MAX_JSON_DEPTH)}${']'.repeat(MAX_JSON_DEPTH)}`, expect.anything()],
  ])('%s', (_, text, value) => {
    expect(parseJson(text)).toEqual(value);
  });
});

describe('parseJson refuses', () => {
  it.each<[string, string, RegExp]>([
    ['a level more than is allowed', `${'['.repeat(MAX_JSON_DEPTH + 1)}${']'.repeat(MAX_JSON_DEPTH + 1)}`, /nested/],
    ['a million levels', '['.repeat(1_000_000), /nested/],
    ['a value more than is allowed', `[${'0,'.repeat(MAX_JSON_VALUES)}0]`, /more than \d+ values/],
    ['a key __proto__', '{"a":{"__proto__":{"polluted":1}}}', /__proto__/],
    ['a key __proto__ in disguise', '{"\\u005f_proto__":1}', /__proto__/],
    ['a key twice', '{"a":1,"b":2,"a":3}', /"a" twice/],
    ['a key twice, once in disguise', '{"a":1,"\\u0061":2}', /"a" twice/],
    ['half a surrogate pair', '["\\ud800"]', /surrogate/],
    ['half a surrogate pair in a key', '{"\\udc00":1}', /surrogate/],
    ['a text without an end', '["abc', /no end/],
    ['text after it', '{} {}', /./],
    ['a comment', '{} // no', /./],
  ])('%s', (_, text, why) => {
    expect(() => parseJson(text)).toThrow(why);
  });
});

describe('readJson refuses', () => {
  it('a file that is larger than any', async () => {
    const file = await fileWith('');
    await truncate(file, MAX_JSON_BYTES + 1);
    await expectRejection(readJson(file, schema, 'CONFIG_INVALID'), 'NOT_READABLE');
  });

  it('a file that is not UTF-8', async () => {
    const file = await fileWith('');
    await writeFile(file, Uint8Array.of(0x22, 0xff, 0x22));
    await expectRejection(readJson(file, schema, 'CONFIG_INVALID'), 'NOT_READABLE');
  });

  it('a number that no double holds', async () => {
    await expectRejection(
      readJson(await fileWith('{"steps":[{"n":1e400}]}'), schema, 'CONFIG_INVALID'),
      'CONFIG_INVALID',
    );
  });

  it('a key that twice stands in it, by the code of the file', async () => {
    await expectRejection(
      readJson(await fileWith('{"steps":[],"steps":[]}'), schema, 'RULES_INVALID'),
      'RULES_INVALID',
    );
  });

  it('and names a place without the controls in its keys', async () => {
    const strict = z.record(z.string(), z.number());
    await expect(
      readJson(await fileWith('{"\\u001b[31m\\u202e":"x"}'), strict, 'CONFIG_INVALID'),
    ).rejects.toMatchObject({
      message: expect.stringContaining('[31m\\u202e'),
    });
  });

  it('but not a byte order mark', async () => {
    expect(await readJson(await fileWith('\ufeff{"steps":[]}'), schema, 'CONFIG_INVALID')).toEqual({ steps: [] });
  });
});
