import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MAX_PROMPT_TOKENS } from '../../../src/limits.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { PromptTokenizer } from '../../../src/pipeline/tokenizer.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { expectRefusal, expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

/** The micro pipeline's tokenizer, changed. */
async function folderWith(
  change: (json: Record<string, unknown>) => Record<string, unknown>,
  config?: object,
): Promise<PipelineFolder> {
  const root = await temporaryFolder();
  const tokenizer = path.join(root, 'tokenizer');
  await cp(path.join(MICRO_PIPELINE, 'tokenizer'), tokenizer, { recursive: true });
  await mkdir(path.join(root, 'transformer'));
  await writeFile(path.join(root, 'transformer', 'model.onnx'), '');
  await writeFile(path.join(root, 'model_index.json'), '{}');
  const file = path.join(tokenizer, 'tokenizer.json');
  await writeFile(file, JSON.stringify(change(JSON.parse(await readFile(file, 'utf8')))));
  if (config) await writeFile(path.join(tokenizer, 'tokenizer_config.json'), JSON.stringify(config));
  return PipelineFolder.open(root);
}

const same = (json: Record<string, unknown>): Record<string, unknown> => json;

describe('PromptTokenizer', () => {
  it('takes a length that is stated as "very large"', async () => {
    const tokenizer = await PromptTokenizer.open(await folderWith(same, { model_max_length: 1e30 }), undefined);
    expect(tokenizer.length).toBe(512);
    expect(tokenizer.encode('a cat').ids).toHaveLength(512);
  });

  it.each([0, -1, MAX_PROMPT_TOKENS + 1, 2 ** 40, 1.5])('refuses a graph that takes %d tokens', async (tokens) => {
    await expectRejection(PromptTokenizer.open(await folderWith(same), tokens), 'TOKENIZER_INVALID');
  });

  it.each([0, -5, 0.5, 1.5, '512'])('refuses a stated length of %j', async (length) => {
    const opened = PromptTokenizer.open(await folderWith(same, { model_max_length: length }), undefined);
    await expectRejection(opened, 'TOKENIZER_INVALID');
  });

  it('refuses a tokenizer that its library does not take', async () => {
    const folder = await folderWith((json) => ({ ...json, model: { type: 'None' } }));
    await expectRejection(PromptTokenizer.open(folder, undefined), 'TOKENIZER_INVALID');
  });

  it('ends a regular expression that would not end by itself', async () => {
    const normalizer = { type: 'Replace', pattern: { Regex: '(a+)+$' }, content: 'x' };
    const folder = await folderWith((json) => ({ ...json, normalizer }));
    const tokenizer = await PromptTokenizer.open(folder, undefined, 500);
    expectRefusal(() => tokenizer.encode(`${'a'.repeat(60)}!`), 'TOKENIZER_INVALID');
    expect(tokenizer.encode('b').ids.length).toBeGreaterThan(0);
  });
});
