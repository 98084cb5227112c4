import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PlanFile } from '../../src/quantize/plan-file.js';
import type { Results } from '../../src/report/results.js';
import { PROMPTS, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const sampling = ['--steps', '2', '--guidance', '1', '--device', 'cpu'];
const measuring = ['--seed', '7', '--sigmas', '0.5', '--inspected', '1', '--noise-floor', 'none'];
const read = (...parts: string[]): string => readFileSync(place.path(...parts), 'utf8');
const json = <T>(...parts: string[]): T => JSON.parse(read(...parts)) as T;

const evaluate = (output: string, ...more: string[]): string[] => [
  ...[
    'eval',
    MICRO_PIPELINE,
    'int8',
    '--prompts',
    'prompt.txt',
    ...sampling,
    ...measuring,
    '--no-linears',
    '-o',
    output,
    ...more,
  ],
];

/** A rules file that wants so much teacher-forced SQNR. */
const atLeast = (name: string, limit: number): string =>
  place.write(name, JSON.stringify({ rules: [{ metric: 'sqnr', operator: '>=', limit }] }));

interface Remedied {
  readonly remedy?: {
    passed: string | null;
    rungs: { rung: string; why?: string; evaluated?: { metrics: Results['metrics'] } }[];
  };
}

/** What was printed of the quantized pipeline, and its SQNR, dB. */
let lines: string[];
let before: number;

beforeAll(async () => {
  place.write('prompts.txt', PROMPTS.join('\n'));
  place.write('prompt.txt', PROMPTS[0] as string);
  const calibrating = ['calibrate', MICRO_PIPELINE, '--prompts', 'prompts.txt', ...sampling];
  await place.succeed([...calibrating, '--held-tokens', '64', '-o', 'calibration']);
  const plan = ['--calibration', 'calibration', '--method', 'percentile', '--percentile', '99', '--smooth', 'none'];
  const few = ['--scheme', 'ffn', '--keep', 'blocks.{2,3,4,5}.*'];
  await place.succeed(['quantize', MICRO_PIPELINE, ...plan, ...few, '--link', '-o', 'int8']);
  atLeast('impossible.json', 200);
  const { code, stdout } = await place.wanq(evaluate('failed', '--gate', 'impossible.json'));
  expect(code).toBe(1);
  lines = stdout.split('\n');
  before = json<Results>('failed', 'results.json').metrics.sqnr?.value as number;
}, 60_000);

describe('a gate that fails', () => {
  it('prints the rungs that apply, in order, with commands of the paths at hand', () => {
    expect(lines.flatMap((line) => line.match(/^\d\. (\w+): /)?.[1] ?? [])).toEqual([
      ...['smooth', 'layers', 'weights', 'qat'],
    ]);
    const by = `--plan failed/plans/smooth.json --calibration CALIBRATION -o int8-smooth`;
    expect(lines).toContain(`   $ wanq quantize ${MICRO_PIPELINE} ${by}`);
    const search = lines.find((line) => line.startsWith('   $ wanq search'));
    expect(search).toContain('--prompts prompt.txt --steps 2 --guidance 1 --seed 7 --device cpu --sigmas 0.5');
    expect(search).toContain('--rules impossible.json --give-back 25 -o int8-layers.json');
    const report = read('failed', 'report.md');
    for (const line of lines.filter((each) => each.startsWith('   $ '))) expect(report).toContain(line.slice(5));
  });

  it('writes plans that its commands can be run with', async () => {
    const smooth = json<PlanFile>('failed', 'plans', 'smooth.json');
    expect(smooth).toMatchObject({ method: 'auto', smooth: 'auto' });
    const int8 = Object.values(smooth.linears);
    expect(int8).toHaveLength(4);
    for (const entry of int8) expect(Object.keys(entry)).not.toContain('low');
    const command = ['quantize', MICRO_PIPELINE, '--plan', 'failed/plans/weights.json', '--calibration', 'calibration'];
    const { stdout } = await place.succeed([...command, '--link', '-o', 'int8-weights']);
    expect(stdout).toContain('4 of 67 linears in INT8');
  });
});

describe('eval --remedy', () => {
  const remedy = (output: string, rules: string, ...more: string[]): string[] => [
    ...evaluate(`${output}-report`, '--gate', rules, '--remedy', output, '--calibration', 'calibration'),
    ...['--samples', '1', ...more],
  ];

  let tried: NonNullable<Remedied['remedy']>;

  const figure = (name: string): number =>
    tried.rungs.find(({ rung }) => rung === name)?.evaluated?.metrics.sqnr?.value as number;

  beforeAll(async () => {
    const { code, stdout } = await place.wanq(remedy('none', 'impossible.json', '--give-back', '0', '--json'));
    expect(code).toBe(1);
    tried = (JSON.parse(stdout) as Required<Remedied>).remedy;
  }, 60_000);

  it('tries every rung that applies where none passes, and leaves their plans and reports', () => {
    expect(tried.passed).toBeNull();
    expect(tried.rungs.map(({ rung, why }) => [rung, why])).toEqual([
      ['smooth', undefined],
      ['layers', 'none passes with 0 % of the saved bytes given back at most; 1 tried'],
      ['weights', undefined],
      ['qat', 'not run: it needs --checkpoint and --calibration-prompts'],
    ]);
    expect(figure('smooth')).toBeGreaterThan(before + 1);
    expect(figure('weights')).toBeGreaterThan(figure('smooth') + 1);
    expect(readdirSync(place.path('none'))).toEqual(['attempts']);
    expect(readdirSync(place.path('none', 'attempts')).sort()).toEqual(['layers', 'smooth', 'weights']);
    const { linears } = json<PlanFile>('none', 'attempts', 'weights', 'plan.json');
    expect(new Set(Object.values(linears).map(({ precision }) => precision))).toEqual(new Set(['int8-weights']));
  });

  it('stops at the first rung that passes, and leaves its pipeline, plan and evaluation', async () => {
    const rules = atLeast('layers.json', figure('smooth') + 0.5);
    const { stdout, stderr } = await place.succeed(remedy('mended', rules, '--give-back', '60', '--evaluations', '3'));
    expect(stderr.match(/^trying .*$/gm)).toEqual(['trying smooth', 'trying layers']);
    expect(stdout).toMatch(/^│ as it is .* failed │$/m);
    expect(stdout).toMatch(/^│ smooth .* failed │$/m);
    expect(stdout).toMatch(/^│ layers .* passed │$/m);
    expect(readdirSync(place.path('mended')).sort()).toEqual([
      ...['attempts', 'media', 'pipeline', 'plan.json', 'report.html', 'report.md', 'results.json'],
    ]);
    expect(readdirSync(place.path('mended', 'pipeline')).sort()).toEqual(readdirSync(MICRO_PIPELINE).sort());
    // As the quantized pipeline has it.
    expect(lstatSync(place.path('mended', 'pipeline', 'tokenizer')).isSymbolicLink()).toBe(true);
    const { linears } = json<PlanFile>('mended', 'plan.json');
    expect(json('mended', 'pipeline', 'transformer', 'plan.json')).toMatchObject({ linears });
    // The largest linears that can be given back within the bound are two of four.
    const left = Object.values(linears).filter(({ precision }) => precision === 'int8');
    expect([2, 3]).toContain(left.length);
    const { metrics, quantized } = json<Results>('mended', 'results.json');
    expect(quantized.path).toBe(path.join('mended', 'pipeline'));
    expect(read('mended', 'report.md')).toMatch(/^# Passed/);

    // The very same figure where it is evaluated by hand.
    const { stdout: again } = await place.succeed([...evaluate('by-hand', '--json').with(2, 'mended/pipeline')]);
    expect((JSON.parse(again) as Results).metrics.sqnr?.value).toBe(metrics.sqnr?.value);
  }, 120_000);

  it('makes nothing where the gate passes at once', async () => {
    const { stderr } = await place.succeed(remedy('needless', atLeast('easy.json', before - 1)));
    expect(stderr).toContain('nothing to remedy: needless is not made');
    expect(existsSync(place.path('needless'))).toBe(false);
  });

  it.each<[string, string[], string, string]>([
    ['without --calibration', ['--remedy', 'wrong'], 'USAGE', '--remedy needs --calibration'],
    [
      'where the report would lie in it',
      ['--remedy', 'refused', '--calibration', 'calibration'],
      'USAGE',
      'lies in the folder of --remedy',
    ],
    ['where the folder exists', ['--remedy', 'int8', '--calibration', 'calibration'], 'OUTPUT_EXISTS', 'int8 exists'],
    [
      'with a calibration that is none',
      ['--remedy', 'wrong', '--calibration', 'prompts.txt'],
      'SAFETENSORS_INVALID',
      '',
    ],
    [
      'with prompts that are not there',
      ['--remedy', 'wrong', '--calibration', 'calibration', '--calibration-prompts', 'absent.txt'],
      'NOT_FOUND',
      'absent.txt does not exist',
    ],
  ])('is refused in one line before anything runs: %s', async (_, args, code, says) => {
    const listing = place.listing();
    const outcome = await place.wanq(evaluate('refused', ...args));
    expect(outcome.stderr).toMatch(new RegExp(`^wanq: .* \\[${code}\\]\\n$`));
    expect(outcome.stderr).toContain(says);
    expect(outcome.stdout).toBe('');
    expect(place.listing()).toEqual(listing);
  });

  it('is refused before anything runs where fine-tuning is asked for and there is no Python', async () => {
    const tuning = ['--checkpoint', MICRO_PIPELINE, '--calibration-prompts', 'prompts.txt'];
    const args = evaluate('refused', '--remedy', 'wrong', '--calibration', 'calibration', ...tuning);
    const { code, stdout, stderr } = await place.wanq(args, { PYTHON: 'no-python' });
    expect([code, stdout]).toEqual([5, '']);
    expect(stderr).toMatch(/^wanq: there is no no-python to run qat\.py with: .* PYTHON \[NOT_FOUND\]\n$/);
  });

  it('is refused for a model without a plan', async () => {
    const args = evaluate('refused', '--remedy', 'wrong', '--calibration', 'calibration').with(2, MICRO_PIPELINE);
    const { code, stderr } = await place.wanq(args);
    expect(code).toBe(5);
    expect(stderr).toMatch(/^wanq: .* has no transformer\/plan\.json: .*\[NOT_FOUND\]\n$/);
  });
});
