import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readResults } from '../../src/report/results.js';
import { type Outcome, WANQ, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE, ROOT } from '../helpers/fixtures.js';

const place = new Workplace();

/** Names that are code wherever something expands them. */
const NAMES = {
  reference: '--remedy=$(touch pwned);`touch pwned`\n::error::x',
  quantized: 'a b\t"c"\'d\' | touch pwned; #',
  prompts: '$HOME\n--json.txt',
} as const;

const NEGATIVE = '$(touch pwned) `touch pwned` ; touch pwned # "x" \'y\' %s *';

interface Run extends Outcome {
  readonly outputs: string[];
  readonly summary: string;
}

/** Runs a script of the action as a step does, with nothing of the tests' environment but PATH. */
function step(script: string, env: Readonly<Record<string, string>>, cwd = place.path()): Promise<Run> {
  const [output, summary] = [place.path('..', 'output'), place.path('..', 'summary')];
  for (const file of [output, summary]) writeFileSync(file, '');
  const { PATH = '' } = process.env;
  const runner = place.path('..', 'runner');
  mkdirSync(runner, { recursive: true });
  const child = spawn('bash', [path.join(ROOT, 'action', script)], {
    cwd,
    env: {
      ...{ PATH, HOME: place.path('..', 'home'), RUNNER_TEMP: runner, GITHUB_ACTIONS: 'true' },
      ...{ GITHUB_WORKSPACE: place.path(), GITHUB_OUTPUT: output, GITHUB_STEP_SUMMARY: summary, ...env },
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code) => {
      const outputs = readFileSync(output, 'utf8').split('\n').slice(0, -1);
      resolve({ code, stdout, stderr, outputs, summary: readFileSync(summary, 'utf8') });
    });
  });
}

const inputs = {
  WANQ,
  ...{ REFERENCE: NAMES.reference, QUANTIZED: NAMES.quantized, PROMPTS: NAMES.prompts },
  RULES: 'rules.json',
  BASELINE: '',
  OPTIONS: [
    '',
    '  --steps 1  \r',
    '--guidance=1',
    '--inspected=1',
    '--sigmas=0.5',
    '--noise-floor\tnone',
    '--no-linears',
    '--device cpu',
    `--negative-prompt ${NEGATIVE}`,
  ].join('\n'),
};

/** Files that hostile text would make, wherever it ran. */
function pwned(): string[] {
  return readdirSync(place.root, { recursive: true, encoding: 'utf8' }).filter((name) => /(^|\/)pwned$/.test(name));
}

beforeAll(() => {
  for (const name of [NAMES.reference, NAMES.quantized]) {
    // A name with slashes would be a path.
    symlinkSync(MICRO_PIPELINE, place.path(name));
  }
  place.write(NAMES.prompts, '::set-output name=verdict::passed ##[error]x $(touch pwned)\n');
  const rule = { metric: 'psnr_drop', operator: '<=', limit: 3 };
  place.write('rules.json', JSON.stringify({ rules: [rule] }));
  place.write('hard.json', JSON.stringify({ rules: [{ ...rule, limit: -1 }] }));
});

describe('run.sh', () => {
  it('evaluates, judges and tells what came of it, with every input as it is', async () => {
    const run = await step('run.sh', inputs);
    expect(run.code, run.stderr).toBe(0);
    expect(run.outputs.map((line) => line.split('=')[0])).toEqual([
      ...['report-path', 'verdict', 'psnr-drop', 'fvd-growth', 'sqnr'],
    ]);
    expect(run.outputs.slice(1)).toEqual(['verdict=passed', 'psnr-drop=0', 'fvd-growth=', 'sqnr=Infinity']);
    const report = run.outputs[0]?.slice('report-path='.length) as string;
    const { settings } = await readResults(path.join(report, 'results.json'));
    expect(settings).toMatchObject({ negativePrompt: NEGATIVE, steps: 1, guidance: 1, prompts: 1 });
    for (const name of ['report.md', 'gate.md', 'junit.xml'])
      expect(existsSync(path.join(report, name)), name).toBe(true);
    expect(run.summary).toMatch(/^## wanq gate passed\n/);
    expect(pwned()).toEqual([]);
  });

  it('lets no line of the evaluation be a command, and fails with outputs where the gate fails', async () => {
    const run = await step('run.sh', { ...inputs, RULES: 'hard.json' });
    expect(run.code).toBe(1);
    expect(run.outputs).toContain('verdict=failed');
    const [, token] = run.stdout.match(/^::stop-commands::([0-9a-f-]{36})\n/) ?? [];
    const [stopped = '', ...after] = run.stdout.split(`::${token}::\n`);
    expect(stopped).toContain('report:');
    expect(after).toHaveLength(1);
    expect(after[0]).toMatch(/^FAILED psnr_drop = 0\.000 dB, wanted <= -1\n[^:]/);
    expect(after[0]).not.toMatch(/^\s*::|##\[/m);
    const commands = run.stderr.split('\n').filter((line) => line.includes('::'));
    expect(commands).toEqual([
      '::error title=wanq gate%3A psnr_drop <= -1,file=hard.json,line=1::psnr_drop = 0.000 dB, wanted <= -1',
    ]);
    expect(pwned()).toEqual([]);
  });

  it.each([
    ['an option that is no option', { OPTIONS: 'positional' }],
    ['the end of options', { OPTIONS: '--' }],
    ['a short option', { OPTIONS: '-o elsewhere' }],
    ['no reference', { REFERENCE: '' }],
    ['no prompts', { PROMPTS: '' }],
  ])('refuses %s', async (_, wrong) => {
    const run = await step('run.sh', { ...inputs, ...wrong });
    expect({ code: run.code, outputs: run.outputs }).toEqual({ code: 2, outputs: [] });
    expect(run.stderr).toMatch(/^wanq action: .*\n$/);
  });

  it('tells of mistakes as wanq does, without a verdict', async () => {
    const rules = await step('run.sh', { ...inputs, RULES: 'wanq:$(touch pwned)' });
    expect(rules.code).toBe(2);
    expect(rules.stderr).toContain('[RULES_INVALID]');
    const option = await step('run.sh', { ...inputs, OPTIONS: '--no-such-option' });
    expect(option.code).toBe(2);
    for (const { outputs } of [rules, option]) expect(outputs).toEqual([expect.stringMatching(/^report-path=/)]);
    expect(pwned()).toEqual([]);
  });
});

describe('install.sh', () => {
  it('takes what the working directory has', async () => {
    const own = await step('install.sh', { WANQ_VERSION: 'latest' }, ROOT);
    expect({ code: own.code, outputs: own.outputs }).toEqual({ code: 0, outputs: [`wanq=${WANQ}`] });
    mkdirSync(place.path('project', 'node_modules', 'wanq', 'bin'), { recursive: true });
    place.write('project/node_modules/wanq/bin/wanq.js', '');
    const dependency = await step('install.sh', { WANQ_VERSION: 'latest' }, place.path('project'));
    expect(dependency.outputs).toEqual([`wanq=${place.path('project', 'node_modules', 'wanq', 'bin', 'wanq.js')}`]);
  });

  it.each(['', '-g', 'file:../x', 'https://e.vil/x.tgz', '$(touch pwned)', '1.0.0 --global', '1.0.0\n2', '../x'])(
    'does not install version %j',
    async (version) => {
      const { code, stderr, outputs } = await step('install.sh', { WANQ_VERSION: version });
      expect({ code, outputs }).toEqual({ code: 2, outputs: [] });
      expect(stderr).toContain('neither a version nor a tag');
      expect(pwned()).toEqual([]);
    },
  );
});
