import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readRules } from '../../../src/gate/rules.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

async function rulesFile(content: unknown): Promise<string> {
  const file = path.join(await temporaryFolder(), 'rules.json');
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

describe('readRules', () => {
  it('reads rules, errors by default', async () => {
    const file = await rulesFile({
      rules: [
        { metric: 'psnr', operator: '>=', limit: 30 },
        { metric: 'ssim', operator: '>', limit: 0.9, level: 'warn' },
      ],
    });
    expect(await readRules(file)).toEqual([
      { metric: 'psnr', operator: '>=', limit: 30, level: 'error' },
      { metric: 'ssim', operator: '>', limit: 0.9, level: 'warn' },
    ]);
  });

  const rule = { metric: 'psnr', operator: '>=', limit: 30 };

  it.each<[string, unknown]>([
    ['text', 'not JSON'],
    ['no rules', { rules: [] }],
    ['a list', [rule]],
    ['an unknown operator', { rules: [{ ...rule, operator: '==' }] }],
    ['a limit in text', { rules: [{ ...rule, limit: '30' }] }],
    ['an empty metric', { rules: [{ ...rule, metric: '' }] }],
    ['an unknown level', { rules: [{ ...rule, level: 'fatal' }] }],
    ['an unknown key', { rules: [{ ...rule, tolerance: 1 }] }],
    ['an unknown key beside the rules', { rules: [rule], extends: 'x' }],
  ])('refuses %s', async (_, content) => {
    await expectRejection(readRules(await rulesFile(content)), 'RULES_INVALID');
  });

  it('refuses a missing file', async () => {
    await expectRejection(readRules('/nowhere/rules.json'), 'NOT_FOUND');
  });
});
