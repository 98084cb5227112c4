import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PlanFile } from '../../src/quantize/plan-file.js';
import { PROMPTS, type Running, until, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const sampling = ['--steps', '2', '--guidance', '1', '--device', 'cpu'];
const prompts = ['--prompts', 'prompts.txt'];
const plan = [
  ...['--calibration', 'calibration', '--method', 'minmax', '--smooth', 'none', '--scheme', 'ffn'],
  ...['--keep', 'blocks.{2,3,4,5}.*'],
];

const sensitivity = (output: string, ...more: string[]): string[] => [
  ...['sensitivity', MICRO_PIPELINE, ...prompts, ...sampling, ...plan, '--samples', '4', '-o', output, ...more],
];
const search = (output: string, ...more: string[]): string[] => [
  ...['search', MICRO_PIPELINE, '--prompts', 'prompt.txt', ...sampling, ...plan, '--samples', '2'],
  ...['--sigmas', '0.5', '--inspected', '1'],
  ...['-o', output, ...more],
];
const read = (name: string): string => readFileSync(place.path(name), 'utf8');
const json = <T>(name: string): T => JSON.parse(read(name)) as T;

interface Entry {
  damage: number;
  noise?: number[];
}
interface SensitivityFile {
  samples: unknown[];
  linears: Record<string, Entry>;
  groups: Record<string, Entry>;
}

/** Ends a command as a power cut would, once `ready` says so. */
async function killWhen(running: Running, ready: () => boolean): Promise<void> {
  await until(ready, 60_000);
  running.child.kill('SIGKILL');
  await running.outcome;
}

beforeAll(async () => {
  place.write('prompts.txt', PROMPTS.join('\n'));
  place.write('prompt.txt', PROMPTS[0] as string);
  await place.succeed(['calibrate', MICRO_PIPELINE, ...prompts, ...sampling, '-o', 'calibration']);
}, 60_000);

describe('sensitivity', () => {
  beforeAll(async () => {
    const { stdout, stderr } = await place.succeed(sensitivity('whole.json', '--plot', 'whole.svg', '--top', '3'));
    expect(stderr).toMatch(/^4 samples, 7 linears and groups at each, 4 forwards of the chains: 32 forwards, about /m);
    expect(stdout).toMatch(/^│ linear +│ +damage │ SQNR alone │ bytes saved │ damage per MB │$/m);
    expect(stdout.split('\n').filter((line) => line.startsWith('│ blocks.'))).toHaveLength(3);
    expect(stdout).toContain('and 1 more in whole.json');
    expect(stdout).toMatch(/^all together: \S+ \(\S+ dB\); the sum of each alone: \S+ \(\S+ dB\)$/m);
  }, 60_000);

  it('measures every linear and every group at every sample', () => {
    const { linears, groups, samples } = json<SensitivityFile>('whole.json');
    expect(samples).toHaveLength(4);
    expect(Object.keys(linears)).toHaveLength(4);
    expect(Object.keys(groups)).toEqual(['blocks.0.ffn', 'blocks.1.ffn', 'all']);
    for (const { damage, noise } of Object.values({ ...linears, ...groups })) {
      expect(noise).toHaveLength(4);
      expect(damage).toBeGreaterThan(0);
    }
    const sum = Object.values(linears).reduce((total, { damage }) => total + damage, 0);
    expect((groups.all?.damage as number) / sum).toBeGreaterThan(0.7);
    expect((groups.all?.damage as number) / sum).toBeLessThan(1.4);
    expect(read('whole.svg')).toMatch(/^<svg [^>]+>/);
  });

  it('measures nothing again that is there, and writes the same bytes', async () => {
    const before = read('whole.json');
    const { stderr } = await place.succeed(sensitivity('whole.json'));
    expect(stderr).not.toContain('samples');
    expect(read('whole.json')).toBe(before);
  });

  it('goes on after it was killed, and ends with the same bytes', async () => {
    const running = place.start(sensitivity('killed.json'));
    await killWhen(running, () => existsSync(place.path('killed.json')));
    const { stderr } = await place.succeed(sensitivity('killed.json'));
    expect(stderr).toMatch(/^4 samples \([123] of them finished\), /m);
    expect(read('killed.json')).toBe(read('whole.json'));
    expect(readdirSync(place.path()).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('measures again what was deleted, and keeps what a person set', async () => {
    const { linears, ...rest } = json<SensitivityFile>('whole.json');
    const whole = linears['blocks.0.ffn.up'];
    delete linears['blocks.0.ffn.up'];
    linears['blocks.1.ffn.up'] = { damage: 0.5 };
    writeFileSync(place.path('edited.json'), JSON.stringify({ ...rest, linears }));
    const { stderr } = await place.succeed(sensitivity('edited.json'));
    expect(stderr).toMatch(/: 8 forwards, about /);
    const { linears: after } = json<SensitivityFile>('edited.json');
    expect(after['blocks.0.ffn.up']).toEqual(whole);
    expect(after['blocks.1.ffn.up']).toMatchObject({ damage: 0.5 });
  });

  it.each([
    ['another seed', ['--seed', '7'], /whole\.json .*differs in seed.*\[SENSITIVITY_MISMATCH\]/],
    ['another range', ['--percentile', '99', '--method', 'percentile'], /differs in plan.*\[SENSITIVITY_MISMATCH\]/],
  ])('refuses to go on with %s', async (_, more, message) => {
    const before = read('whole.json');
    const { code, stdout, stderr } = await place.wanq(sensitivity('whole.json').concat(more));
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message);
    expect(read('whole.json')).toBe(before);
  });
});

describe('search', () => {
  const rules = (name: string, ...list: object[]): string => place.write(name, JSON.stringify({ rules: list }));
  let strict: string;
  let all: number;

  beforeAll(async () => {
    const easy = rules('easy.json', { metric: 'psnr_drop', operator: '<=', limit: 3 });
    const { stdout, stderr } = await place.succeed(
      search('easy-plan.json', '--rules', easy, '--cache', 'cache', '--json'),
    );
    expect(stderr).toMatch(/^4 linears; 16 evaluations at most, each of 5 forwards and 2 videos, /m);
    const { chosen, trials } = JSON.parse(stdout);
    expect(trials).toHaveLength(1);
    expect(chosen.givenBack).toEqual([]);
    all = chosen.metrics.sqnr.value;
    strict = rules('strict.json', { metric: 'sqnr', operator: '>=', limit: all + 1 });
  }, 60_000);

  it('writes a plan of the smallest that passes, which quantize takes', async () => {
    const { linears } = json<PlanFile>('easy-plan.json');
    const int8 = Object.values(linears).filter(({ precision }) => precision === 'int8');
    expect(int8).toHaveLength(4);
    const args = ['quantize', MICRO_PIPELINE, '--calibration', 'calibration', '--plan', 'easy-plan.json', '--link'];
    const { stdout } = await place.succeed([...args, '-o', 'easy']);
    expect(stdout).toContain('4 of 67 linears in INT8');
  });

  it('gives linears back until the gate passes, prints what it tried and writes a report', async () => {
    const { stdout } = await place.succeed(
      search('plan.json', '--rules', strict, '--cache', 'cache', '--report', 'report'),
    );
    const lines = stdout.split('\n').filter((line) => /^│ \d/.test(line));
    expect(lines.length).toBeGreaterThan(1);
    expect(lines[0]).toMatch(/^│ 0 of 4 .*failed/);
    expect(lines.filter((line) => line.includes('passed, chosen'))).toHaveLength(1);
    expect(stdout).toMatch(/^predicted SQNR was off by \d\.\d\d dB at most$/m);
    const kept = Object.values(json<PlanFile>('plan.json').linears).filter(({ precision }) => precision === 'keep');
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThan(4);
    expect(stdout).toMatch(new RegExp(`^plan\\.json: ${kept.length} of 4 linears given back, `, 'm'));
    expect(readdirSync(place.path('report')).sort()).toEqual([
      ...['report.md', 'search.json', 'sensitivity.json', 'sensitivity.svg'],
    ]);
    expect(read('report/report.md')).toContain('passed, chosen');
  });

  it('asks for no plan beyond what may be given back', async () => {
    const args = ['--rules', strict, '--cache', 'cache', '--give-back', '1'];
    const { code, stdout } = await place.wanq(search('bounded.json', ...args));
    expect(code).toBe(1);
    expect(stdout.split('\n').filter((line) => /^│ \d/.test(line))).toHaveLength(1);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('gate failed: not even with 1 % of the saved bytes given back');
    expect(existsSync(place.path('bounded.json'))).toBe(false);
  });

  it('goes on after it was killed, with what it had evaluated', async () => {
    const args = search('again.json', '--rules', strict, '--cache', 'killed');
    const running = place.start(args);
    const evaluations = (): string | undefined => {
      return existsSync(place.path('killed'))
        ? readdirSync(place.path('killed')).find((name) => name.startsWith('evaluations'))
        : undefined;
    };
    await killWhen(running, () => evaluations() !== undefined);
    expect(existsSync(place.path('again.json'))).toBe(false);
    const { stderr } = await place.succeed(args);
    expect(stderr).toMatch(/^0 given back, .*\(from the cache\)$/m);
    expect(stderr).not.toMatch(/^sensitivity: /m);
    expect(read('again.json')).toBe(read('plan.json'));
    expect(readdirSync(place.path('killed')).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('takes over a sensitivity file, and stops when the evaluations are used up', async () => {
    const args = ['--rules', strict, '--cache', 'few', '--sensitivity', 'whole.json', '--evaluations', '1'];
    const { code, stdout, stderr } = await place.wanq(search('few.json', ...args));
    expect(code).toBe(1);
    expect(stderr).not.toMatch(/^sensitivity: /m);
    expect(stdout).toContain('the search ended for want of evaluations or time: a smaller plan may pass');
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('gate failed: no plan that was tried passes');
    expect(existsSync(place.path('few.json'))).toBe(false);
  });

  it('exits with 1 where no plan passes', async () => {
    const never = rules('never.json', { metric: 'psnr_drop', operator: '<=', limit: -50 });
    const { code, stdout } = await place.wanq(search('never-plan.json', '--rules', never, '--cache', 'cache'));
    expect(code).toBe(1);
    expect(stdout).toMatch(/^│ 4 of 4 .*failed/m);
    expect(stdout).toMatch(/^FAILED psnr_drop = 0\.000 dB, wanted <= -50$/m);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('gate failed: not even with everything given back');
  });

  it.each([
    ['FVD without a feature network', [], /no plan can pass the rule on fvd_growth: .*--features/],
    [
      'a metric that there is not',
      ['--rules', 'unknown.json'],
      /no plan can pass the rule on sqn: it was not measured/,
    ],
  ])('says at once that no plan can pass a rule on %s', async (_, more, message) => {
    rules('unknown.json', { metric: 'sqn', operator: '>=', limit: 1 });
    const { code, stderr } = await place.wanq(search('unjudged.json', '--cache', 'cache', ...more));
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  it('never overwrites a plan', async () => {
    const { code, stderr } = await place.wanq(search('plan.json', '--rules', strict, '--cache', 'cache'));
    expect([code, stderr]).toEqual([2, expect.stringContaining('[OUTPUT_EXISTS]')]);
  });
});
