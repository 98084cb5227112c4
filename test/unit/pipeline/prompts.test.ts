import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MAX_PROMPT_LENGTH, MAX_PROMPTS } from '../../../src/limits.js';
import { readPrompts } from '../../../src/pipeline/prompts.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

async function fileWith(text: string): Promise<string> {
  const file = path.join(await temporaryFolder(), 'prompts.txt');
  await writeFile(file, text);
  return file;
}

describe('readPrompts', () => {
  it('reads a prompt a line, without blank lines and comments', async () => {
    const text = '# two prompts\n\n  A cat, sleeping # on a sofa  \r\n\t\n   # not this\r\nUne été 日本\n';
    expect(await readPrompts(await fileWith(text))).toEqual(['A cat, sleeping # on a sofa', 'Une été 日本']);
  });

  it('reads a last line without an end, and a file with a byte order mark', async () => {
    expect(await readPrompts(await fileWith('\ufeff# comment\na\nb'))).toEqual(['a', 'b']);
  });

  it('keeps repeated prompts', async () => {
    expect(await readPrompts(await fileWith('a\na\n'))).toEqual(['a', 'a']);
  });

  it.each(['', '\n\n', '# only\n  # comments'])('refuses a file without prompts: %j', async (text) => {
    await expectRejection(readPrompts(await fileWith(text)), 'PROMPTS_EMPTY');
  });

  it('takes as many prompts as allowed and no more', async () => {
    expect(await readPrompts(await fileWith('a\n'.repeat(MAX_PROMPTS)))).toHaveLength(MAX_PROMPTS);
    await expectRejection(readPrompts(await fileWith('a\n'.repeat(MAX_PROMPTS + 1))), 'USAGE');
  });

  it('refuses a missing file', async () => {
    await expectRejection(readPrompts('/nowhere.txt'), 'NOT_FOUND');
  });
});

describe('readPrompts refuses', () => {
  it('a prompt that is longer than any', async () => {
    expect(await readPrompts(await fileWith('x'.repeat(MAX_PROMPT_LENGTH)))).toHaveLength(1);
    await expectRejection(readPrompts(await fileWith(`a\n${'x'.repeat(MAX_PROMPT_LENGTH + 1)}`)), 'USAGE');
  });

  it('a file that is not UTF-8', async () => {
    const file = await fileWith('');
    await writeFile(file, Buffer.from('\ufeffa cat', 'utf16le'));
    await expectRejection(readPrompts(file), 'NOT_READABLE');
  });
});
