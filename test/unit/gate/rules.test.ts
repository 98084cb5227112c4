import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { PRESETS } from '../../../src/gate/presets.js';
import { DEFAULT_RULES, readRules } from '../../../src/gate/rules.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

async function rulesFile(content: unknown): Promise<string> {
  const file = path.join(await temporaryFolder(), 'rules.json');
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

const rule = { metric: 'psnr', operator: '>=', limit: 30 };

describe('readRules', () => {
  it('reads rules, errors by default, with the line of each', async () => {
    const file = await rulesFile(`{
  "rules": [
    { "metric": "psnr", "operator": ">=", "limit": 30 },
    {
      "metric": "ssim",
      "operator": ">", "limit": 0.9, "level": "warn", "aggregation": "lower-bound", "minSamples": 8
    }
  ]
}`);
    expect(await readRules(file)).toEqual([
      { metric: 'psnr', operator: '>=', limit: 30, level: 'error', line: 3 },
      {
        ...{ metric: 'ssim', operator: '>', limit: 0.9, level: 'warn', line: 4 },
        ...{ aggregation: 'lower-bound', minSamples: 8 },
      },
    ]);
  });

  it.each<[string, unknown, string]>([
    ['text', 'not JSON', 'is not JSON'],
    ['no rules', { rules: [] }, 'there is no rule'],
    ['nothing', {}, 'there is no rule'],
    ['a list', [rule], 'the top level'],
    ['an unknown operator', { rules: [{ ...rule, operator: '==' }] }, 'rules.0.operator'],
    ['a limit in text', { rules: [{ ...rule, limit: '30' }] }, 'rules.0.limit'],
    ['an empty metric', { rules: [{ ...rule, metric: '' }] }, 'rules.0.metric'],
    ['an unknown level', { rules: [{ ...rule, level: 'fatal' }] }, 'rules.0.level'],
    ['an unknown aggregation', { rules: [{ ...rule, aggregation: 'max' }] }, 'rules.0.aggregation'],
    ['no samples', { rules: [{ ...rule, minSamples: 0 }] }, 'rules.0.minSamples'],
    ['an unknown key', { rules: [{ ...rule, tolerance: 1 }] }, 'rules.0: Unrecognized key: "tolerance"'],
    ['an unknown key beside the rules', { rules: [rule], extend: 'x' }, 'Unrecognized key: "extend"'],
    ['an unknown preset', { extends: 'wanq:lax', rules: [rule] }, 'extends: there is no preset wanq:lax'],
    ['a file to extend', { extends: 'other.json', rules: [rule] }, 'extends: there is no preset other.json'],
    ['a rule twice', { rules: [rule, { ...rule, limit: 20 }] }, 'rules.1: psnr (mean) has a rule already: rules.0'],
    ['a rule that is off and on', { rules: [{ ...rule, level: 'off' }, rule] }, 'rules.1: psnr (mean)'],
    ['the default aggregation beside itself', { rules: [rule, { ...rule, aggregation: 'mean' }] }, 'rules.1'],
  ])('refuses %s, and says where', async (_, content, where) => {
    await expect(readRules(await rulesFile(content))).rejects.toMatchObject({
      code: 'RULES_INVALID',
      message: expect.stringContaining(where),
    });
  });

  it('takes a range, a warning before an error, and two figures of one metric', async () => {
    const rules = [
      rule,
      { ...rule, operator: '<', limit: 60 },
      { ...rule, limit: 40, level: 'warn' },
      { ...rule, aggregation: 'worst' },
    ];
    expect(await readRules(await rulesFile({ rules }))).toHaveLength(4);
  });

  it('refuses a missing file', async () => {
    await expectRejection(readRules('/nowhere/rules.json'), 'NOT_FOUND');
  });

  it('takes the name of a preset for a file', async () => {
    for (const [name, rules] of PRESETS) expect(await readRules(name)).toEqual(rules);
    expect(await readRules('wanq:recommended')).toEqual(DEFAULT_RULES);
    await expectRejection(readRules('wanq:none'), 'RULES_INVALID');
  });
});

describe('extends', () => {
  const extending = async (...rules: object[]) =>
    (await readRules(await rulesFile({ extends: 'wanq:recommended', rules }))).map(
      ({ metric, limit, level, aggregation = 'mean' }) => `${metric} ${aggregation} ${limit} ${level}`,
    );
  const preset = [
    ...['psnr_drop mean 3 error', 'fvd_growth mean 15 error'],
    ...['linear_excess mean 4 error', 'scale_ratio_max mean 1.05 error'],
  ];

  it('is the preset where there are no rules', async () => {
    expect(await extending()).toEqual(preset);
    expect(await readRules(await rulesFile({ extends: 'wanq:strict' }))).toEqual(PRESETS.get('wanq:strict'));
  });

  it('adds rules, and puts them in place of those on the same metric and aggregation', async () => {
    const drop = { metric: 'psnr_drop', operator: '<=', limit: 1 };
    expect(await extending(drop)).toEqual([...preset.slice(1), 'psnr_drop mean 1 error']);
    expect(await extending({ ...drop, aggregation: 'worst' })).toEqual([...preset, 'psnr_drop worst 1 error']);
    expect(await extending({ ...drop, metric: 'fvd_growth', level: 'off' })).toEqual([
      ...preset.filter((_, i) => i !== 1),
      'fvd_growth mean 1 off',
    ]);
  });
});

describe('presets', () => {
  const subjects = (name: string) =>
    PRESETS.get(name)?.map(({ metric, operator, limit, aggregation }) =>
      [aggregation, metric, operator, limit].filter((part) => part !== undefined).join(' '),
    );

  it('are what the documentation says', () => {
    const recommended = ['psnr_drop <= 3', 'fvd_growth < 15', 'linear_excess <= 4', 'scale_ratio_max <= 1.05'];
    expect(subjects('wanq:recommended')).toEqual(recommended);
    expect(subjects('wanq:no-features')).toEqual(recommended.filter((_, i) => i !== 1));
    expect(subjects('wanq:strict')).toEqual([
      ...recommended,
      ...['upper-bound psnr_drop <= 1', 'sqnr >= 30', 'sqnr_min >= 25'],
    ]);
  });
});
