import { existsSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { main } from '../../../src/cli/main.js';
import type { Verdict } from '../../../src/gate/judge.js';
import { resultsToJson } from '../../../src/report/results.js';
import { capturedIo } from '../../helpers/io.js';
import { dB, fullResults, results } from '../gate/fixture.js';

const folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'wanq-gate-')));
afterAll(() => rm(folder, { recursive: true, force: true }));

const at = (name: string): string => path.join(folder, name);
const write = (name: string, content: string): void => writeFileSync(at(name), content);
const read = (name: string): string => readFileSync(at(name), 'utf8');

/** Runs `wanq`; arguments that look like files are files of the folder, and what is printed names them as they were given. */
async function wanq(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { io, said } = capturedIo(() => folder, env);
  const code = await main(
    args.map((arg) => (/^[\w./]+\.(json|md|xml)$/.test(arg) ? at(arg) : arg)),
    io,
  );
  const printed = (text: string): string => text.replaceAll(`${folder}${path.sep}`, '');
  return { code, stdout: printed(said.stdout), stderr: printed(said.stderr) };
}

const lines = (text: string): string[] => text.trimEnd().split('\n');
const json = (text: string) => JSON.parse(text) as Verdict & { update?: { written: boolean; changes: string[] } };

/** Writes results whose SQNR is another; of those with less, one linear is to blame. */
function measured(name: string, sqnr: number): void {
  const { metrics, linears } = results();
  const worse = linears.map((row, i) => (i === 1 && sqnr < 42 ? { ...row, sqnr: 20, excess: 23 } : row));
  write(name, resultsToJson(fullResults({ metrics: { ...metrics, sqnr: dB(sqnr) }, linears: worse })));
}

beforeEach(() => {
  measured('good.json', 42.5);
  measured('same.json', 42.3);
  measured('worse.json', 40);
  measured('better.json', 45);
  write('rules.json', '{\n"rules": [\n{ "metric": "sqnr", "operator": ">=", "limit": 30 }\n]\n}');
  write('hard.json', '{\n"rules": [\n\n{ "metric": "sqnr", "operator": ">=", "limit": 60 }\n]\n}');
});

const gate = (file: string, ...more: string[]) => wanq(['gate', file, '--rules', 'rules.json', ...more]);

describe('wanq gate', () => {
  it('takes presets by name', async () => {
    const { code, stdout } = await wanq(['gate', 'good.json', '--rules', 'wanq:strict']);
    expect(code).toBe(1);
    expect(stdout).toContain('FAILED fvd_growth has no usable value (wanted < 15): no feature network');
    expect(stdout).toContain('ok     sqnr = 42.500 dB, wanted >= 30');
    const unknown = await wanq(['gate', 'good.json', '--rules', 'wanq:none']);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toMatch(/there is no preset wanq:none: take one of .* \[RULES_INVALID\]\n$/);
  });

  it('names on failure the linear to look at first, with the verdict last', async () => {
    const { code, stdout } = await wanq(['gate', 'worse.json', '--rules', 'hard.json']);
    expect(code).toBe(1);
    expect(lines(stdout)[1]).toMatch(/^look first at linear blocks\.0\.ffn\.down: 23\.000 dB lost/);
    expect(lines(stdout).at(-1)).toMatch(/^gate failed: /);
  });

  it('refuses options that make no sense together, and outputs that would replace inputs', async () => {
    for (const args of [
      ['--update'],
      ['--baseline', 'b.json', '--force'],
      ['--junit', 'good.json'],
      ['--markdown', 'rules.json'],
      ['--markdown', 'x.md', '--junit', './x.md'],
      ['--junit', ''],
    ]) {
      const { code, stderr } = await gate('good.json', ...args);
      expect({ code, error: stderr.includes('[USAGE]') }, args.join(' ')).toEqual({ code: 2, error: true });
    }
    expect(existsSync(at('x.md'))).toBe(false);
  });
});

describe('a baseline', () => {
  it('is written where the rules pass, and later results are held against it', async () => {
    const made = await gate('good.json', '--baseline', 'one.json', '--update');
    expect({ ...made, stdout: lines(made.stdout) }).toEqual({
      code: 0,
      stderr: '',
      stdout: [
        ...['baseline: psnr_drop: none -> 0.200 dB', 'baseline: size_ratio: none -> 0.700 x'],
        ...['baseline: sqnr: none -> 42.500 dB', 'baseline: sqnr_min: none -> 36.000 dB', 'one.json: written'],
        'ok     sqnr = 42.500 dB, wanted >= 30',
        'ok     baseline: psnr_drop 0.200 dB -> 0.200 dB, tolerance 0.100 dB',
        'ok     baseline: size_ratio 0.700 x -> 0.700 x, tolerance 1 %',
        'ok     baseline: sqnr 42.500 dB -> 42.500 dB, tolerance 0.500 dB',
        'ok     baseline: sqnr_min 36.000 dB -> 36.000 dB, tolerance 1.000 dB',
        expect.stringMatching(/^baseline one\.json \(SHA-256 [0-9a-f]{12}\)$/),
        'gate passed',
      ],
    });
    expect((await gate('same.json', '--baseline', 'one.json')).code).toBe(0);
    const worse = await gate('worse.json', '--baseline', 'one.json');
    expect(worse.code).toBe(1);
    expect(worse.stdout).toContain(
      'FAILED baseline: sqnr 42.500 dB -> 40.000 dB, 2.500 dB worse, tolerance 0.500 dB; lost most: linear blocks.0.ffn.down (40.000 dB -> 20.000 dB)',
    );
    const better = await gate('better.json', '--baseline', 'one.json');
    expect(better.code).toBe(0);
    expect(better.stdout).toContain('note   sqnr 42.500 dB -> 45.000 dB, better by more than the tolerance');
  });

  it('is not written where a rule fails, with --force either', async () => {
    for (const force of [[], ['--force']]) {
      const args = ['gate', 'good.json', '--rules', 'hard.json', '--baseline', 'two.json', '--update', ...force];
      const { code, stdout } = await wanq(args);
      expect(code).toBe(1);
      expect(stdout).toContain('FAILED the baseline was not written: the rules fail\n');
    }
    expect(existsSync(at('two.json'))).toBe(false);
  });

  it('is not lowered, nor made otherwise, without --force', async () => {
    await gate('good.json', '--baseline', 'three.json', '--update');
    const before = read('three.json');
    const refused = await gate('worse.json', '--baseline', 'three.json', '--update');
    expect(refused.code).toBe(1);
    expect(refused.stdout).toContain('the baseline was not written: something got worse');
    const { settings } = results();
    write('longer.json', resultsToJson(fullResults({ settings: { ...settings, steps: 9 } })));
    const otherwise = await gate('longer.json', '--baseline', 'three.json', '--update');
    expect(otherwise.code).toBe(1);
    expect(otherwise.stdout).toContain('the settings are others: steps 2 -> 9');
    expect(read('three.json')).toBe(before);
    const forced = await gate('worse.json', '--baseline', 'three.json', '--update', '--force');
    expect(forced.code).toBe(0);
    expect(lines(forced.stdout)[0]).toBe('baseline: sqnr: 42.500 dB -> 40.000 dB');
    expect((await gate('longer.json', '--baseline', 'three.json', '--update', '--force')).code).toBe(0);
    expect(JSON.parse(read('three.json')).settings.steps).toBe(9);
  });

  it('keeps tolerances that were set by hand, and takes up metrics that they name', async () => {
    await gate('good.json', '--baseline', 'four.json', '--update');
    const edited = { ...JSON.parse(read('four.json')), tolerances: { psnr: { absolute: 3 }, sqnr: { absolute: 2.6 } } };
    write('four.json', JSON.stringify(edited));
    const missing = await gate('worse.json', '--baseline', 'four.json');
    expect(missing.code).toBe(1);
    expect(missing.stdout).toContain('psnr has no usable value in the baseline');
    expect(missing.stdout).toContain('note   tolerance of sqnr: 2.600 dB; by default 0.500 dB');
    const updated = await gate('worse.json', '--baseline', 'four.json', '--update');
    expect(updated.code).toBe(0);
    expect(JSON.parse(read('four.json'))).toMatchObject({
      tolerances: edited.tolerances,
      metrics: { psnr: { value: 50 }, sqnr: { value: 40 } },
    });
  });

  it('that is broken, missing or not a baseline is refused, and not replaced', async () => {
    write('broken.json', '{');
    for (const update of [[], ['--update', '--force']]) {
      const broken = await gate('good.json', '--baseline', 'broken.json', ...update);
      expect({ code: broken.code, stderr: broken.stderr }).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('[BASELINE_INVALID]'),
      });
      expect((await gate('good.json', '--baseline', 'same.json', ...update)).code).toBe(2);
    }
    expect(read('broken.json')).toBe('{');
    expect((await gate('good.json', '--baseline', 'none.json')).code).toBe(5);
  });
});

describe('outputs', () => {
  const actions = { GITHUB_ACTIONS: 'true', GITHUB_WORKSPACE: folder };

  it('are JSON, Markdown and JUnit of one verdict; files are replaced', async () => {
    await gate('good.json', '--baseline', 'five.json', '--update');
    for (const name of ['out.md', 'out.xml']) write(name, 'old');
    const { code, stdout, stderr } = await gate(
      ...(['worse.json', '--baseline', 'five.json', '--json', '--markdown', 'out.md', '--junit', 'out.xml'] as const),
    );
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(json(stdout)).toMatchObject({ passed: false, checks: [{ passed: true }], baseline: { passed: false } });
    expect(lines(read('out.md'))[0]).toBe('## wanq gate failed');
    expect(read('out.xml')).toContain('<testsuites tests="6" failures="1"');
    const { update } = json((await gate('better.json', '--baseline', 'five.json', '--update', '--json')).stdout);
    expect(update).toEqual({ written: true, changes: ['sqnr: 42.500 dB -> 45.000 dB'] });
  });

  it('go to the summary of a job on GitHub, and to annotations on stderr, where the rule stands', async () => {
    write('summary.md', 'before\n');
    const env = { ...actions, GITHUB_STEP_SUMMARY: at('summary.md') };
    const { code, stdout, stderr } = await wanq(['gate', 'good.json', '--rules', 'hard.json', '--json'], env);
    expect(code).toBe(1);
    expect(json(stdout).passed).toBe(false);
    expect(stderr).toBe(
      '::error title=wanq gate%3A sqnr >= 60,file=hard.json,line=4::sqnr = 42.500 dB, wanted >= 60\n',
    );
    expect(lines(read('summary.md')).slice(0, 2)).toEqual(['before', '## wanq gate failed']);
  });

  it('do not go to GitHub elsewhere, and a summary that cannot be written decides nothing', async () => {
    expect((await wanq(['gate', 'good.json', '--rules', 'hard.json'])).stderr).toBe('');
    const env = { ...actions, GITHUB_STEP_SUMMARY: at('no/folder') };
    const { code, stderr } = await wanq(['gate', 'good.json', '--rules', 'rules.json'], env);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^the job's summary was not written: .*does not exist\n$/);
  });
});
