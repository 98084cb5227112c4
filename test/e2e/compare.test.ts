import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import type { ComparedModel, Comparison } from '../../src/report/comparison.js';
import { type Outcome, PROMPTS, until, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';
import { expectMistakeIn } from '../helpers/mistakes.js';

const place = new Workplace();
const sampling = ['--prompts', 'prompts.txt', '--steps', '2', '--guidance', '1', '--device', 'cpu'];
const measuring = [...sampling, '--sigmas', '0.5', '--inspected', '2', '--no-linears'];
const models = ['ffn', 'blocks', path.join('deep', 'ffn')];
const evaluating = (output: string, ...more: string[]): string[] => [
  ...['compare', '--reference', MICRO_PIPELINE, ...models, ...measuring, '-o', output, ...more],
];
const read = (...parts: string[]): string => readFileSync(place.path(...parts), 'utf8');
const comparison = (folder: string): Comparison => JSON.parse(read(folder, 'compare.json')) as Comparison;
const ends = (text: string): string => text.slice(text.indexOf('reference:'), text.indexOf('page:'));
let compared: Outcome;

const expectMistake = (args: readonly string[], code: ErrorCode, exit: number, says: string): Promise<void> =>
  expectMistakeIn(place, args, code, exit, says);

beforeAll(async () => {
  place.write('prompts.txt', PROMPTS.join('\n'));
  place.write('other.txt', PROMPTS.toReversed().join('\n'));
  place.write('fair.json', JSON.stringify({ rules: [{ metric: 'sqnr', operator: '>=', limit: 20 }] }));
  mkdirSync(place.path('deep'));
  mkdirSync(place.path('empty'));
  await place.succeed(['calibrate', MICRO_PIPELINE, ...sampling, '-o', 'calibration']);
  const plain = ['--method', 'minmax', '--smooth', 'none', '--link'];
  for (const [scheme, output, ...more] of [
    ['ffn', 'ffn'],
    ['blocks', 'blocks'],
    ['ffn', models[2] as string, '--keep', 'blocks.{3,4,5}.*'],
  ] as const) {
    const args = ['quantize', MICRO_PIPELINE, '--calibration', 'calibration', '--scheme', scheme, ...plain];
    await place.succeed([...args, ...more, '-o', output]);
  }
  compared = await place.succeed(evaluating('all', '--rules', 'fair.json'));
}, 120_000);

describe('compare --reference', () => {
  it('leaves a report for each model, and one comparison', () => {
    expect(readdirSync(place.path('all')).sort()).toEqual([
      ...['blocks', 'compare.html', 'compare.json', 'compare.md', 'ffn', 'ffn-2'],
    ]);
    for (const name of ['ffn', 'blocks', 'ffn-2']) {
      expect(readdirSync(place.path('all', name))).toEqual(expect.arrayContaining(['report.md', 'results.json']));
    }
  });

  it('prints a row for each model, and what its marks mean', () => {
    const rows = compared.stdout.split('\n').filter((line) => /^│ (◆ )?(ffn|blocks)/.test(line));
    expect(rows.map((row) => row.match(/ffn-2|ffn|blocks/)?.[0])).toEqual(['ffn', 'blocks', 'ffn-2']);
    expect(rows.map((row) => row.match(/passed|failed/)?.[0])).toEqual(['passed', 'passed', 'passed']);
    expect(compared.stdout).toContain('*: the best figure of its column.');
    expect(compared.stdout).toMatch(/page: all.compare\.html\n$/);
  });

  it('runs the reference once: its time and memory are the same in all reports', () => {
    const references = ['ffn', 'blocks', 'ffn-2'].map(
      (name) => JSON.parse(read('all', name, 'results.json')).reference,
    );
    expect(references[1]).toEqual(references[0]);
    expect(references[2]).toEqual(references[0]);
  });

  it('finds what is known of the three: fewer linears in INT8 are larger and better', () => {
    const [ffn, blocks, fewer] = comparison('all').models as [ComparedModel, ComparedModel, ComparedModel];
    expect(fewer.figures.sqnr).toMatchObject({ standing: 'best' });
    expect(blocks.figures.size_ratio).toMatchObject({ standing: 'best' });
    const sizes = [blocks, ffn, fewer].map(({ model }) => model.transformerBytes);
    expect(sizes).toEqual(sizes.toSorted((a, b) => a - b));
    expect(blocks.figures.sqnr).toMatchObject({ standing: 'worse', toBest: { best: 'ffn-2', interval: { units: 2 } } });
    expect(fewer.report).toBe(
      path.join('ffn-2', existsSync(place.path('all', 'ffn-2', 'report.html')) ? 'report.html' : 'report.md'),
    );
  });

  it('keeps finished reports when it is interrupted, says so, and goes on with the same command alone', async () => {
    const two = (...more: string[]): string[] => evaluating('two', ...more).filter((word) => word !== models[2]);
    const running = place.start(two());
    const first = path.join('two', 'ffn', 'results.json');
    await until(() => existsSync(place.path(first)), 60_000);
    running.child.kill('SIGINT');
    const { code, stderr } = await running.outcome;
    expect(code).toBe(130);
    expect(stderr).toContain('two keeps the reports that are finished: the same command goes on from there');
    expect(readdirSync(place.path('two'))).toEqual(['ffn']);
    await expectMistake(two('--seed', '7', '--rules', 'fair.json'), 'OUTPUT_EXISTS', 2, 'with other seed, rules');

    // What kill -9 leaves.
    mkdirSync(place.path('two', '.blocks.1-0123abcd.tmp'));
    const before = read(first);
    const again = await place.succeed(two());
    expect(again.stderr).toMatch(/^two.ffn is there: not evaluated again$/m);
    expect(read(first)).toBe(before);
    const values = (folder: string) => comparison(folder).models.map(({ figures }) => figures.sqnr.value);
    expect(values('two')).toEqual(values('all').slice(0, 2));
  }, 90_000);
});

describe('compare of reports', () => {
  const reports = ['ffn', 'blocks', 'ffn-2'].map((name) => path.join('all', name));

  it('makes the table that evaluating made', async () => {
    const { stdout, stderr } = await place.succeed(['compare', ...reports, '--rules', 'fair.json']);
    expect(stderr).toBe('');
    expect(stdout.trimEnd()).toBe(ends(compared.stdout).trimEnd());
  });

  it('makes the same comparison in a folder of its own, with links to the reports', async () => {
    const output = path.join('pages', 'three');
    await place.succeed(['compare', ...reports, '--rules', 'fair.json', '-o', output]);
    expect(readdirSync(place.path(output)).sort()).toEqual(['compare.html', 'compare.json', 'compare.md']);
    const linked = [...read(output, 'compare.html').matchAll(/href="(\.\/[^"]+)"/g)].map(([, url]) => url as string);
    expect(linked).toHaveLength(3);
    for (const url of linked)
      expect(existsSync(path.join(place.path(output), decodeURIComponent(url))), url).toBe(true);
    const bare = ({ models: of, ...rest }: Comparison) => ({
      ...rest,
      models: of.map(({ report: _, ...more }) => more),
    });
    expect(bare(comparison(output))).toEqual(bare(comparison('all')));
  });

  it('takes results.json for its folder, and prints JSON alone with --json', async () => {
    const files = reports.slice(0, 2).map((folder) => path.join(folder, 'results.json'));
    const { stdout, stderr } = await place.succeed(['--json', 'compare', ...files]);
    expect(stderr).toBe('');
    const made = JSON.parse(stdout) as Comparison;
    expect(made.models.map(({ name }) => name)).toEqual(['ffn', 'blocks']);
  });

  it('does not mind a device of the environment', async () => {
    await place.succeed(['compare', ...reports], { WANQ_DEVICE: 'cpu' });
  });
});

describe('bad input', () => {
  const [ffn, blocks] = [path.join('all', 'ffn'), path.join('all', 'blocks')];

  beforeAll(() => {
    for (const name of ['old', 'prompted']) cpSync(place.path(ffn), place.path(name), { recursive: true });
    const results = JSON.parse(read(ffn, 'results.json'));
    const changed = { ...results, settings: { ...results.settings, promptsDigest: '0'.repeat(64) } };
    writeFileSync(place.path('old', 'results.json'), JSON.stringify({ ...results, schema: 1 }));
    writeFileSync(place.path('prompted', 'results.json'), JSON.stringify(changed));
    rmSync(place.path('old', 'report.md'));
  });

  it.each<[string, string[], ErrorCode, number, string]>([
    ['one report', ['compare', ffn], 'USAGE', 2, 'two models or more'],
    ['a folder without results', ['compare', ffn, 'empty'], 'NOT_FOUND', 5, 'empty has no results.json'],
    ['results of an earlier schema', ['compare', ffn, 'old'], 'RESULTS_INVALID', 2, 'schema 1'],
    ['other prompts', ['compare', blocks, 'prompted'], 'COMPARE_MISMATCH', 2, 'promptsDigest'],
    ['an output that exists', ['compare', ffn, blocks, '-o', 'empty'], 'OUTPUT_EXISTS', 2, 'empty exists already'],
    ['options of evaluating', ['compare', ffn, blocks, '--steps', '3'], 'USAGE', 2, '--steps is for --reference'],
  ])('%s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));

  const evaluate = ['compare', '--reference', MICRO_PIPELINE];
  it.each<[string, string[], ErrorCode, number, string]>([
    ['no prompts', [...evaluate, 'ffn', 'blocks', '-o', 'new'], 'USAGE', 2, '--prompts'],
    ['no output', [...evaluate, 'ffn', 'blocks', ...measuring], 'USAGE', 2, '--output'],
    ['the same model twice', [...evaluate, 'ffn', './ffn/', ...measuring, '-o', 'new'], 'USAGE', 2, 'named twice'],
    ['a finished comparison', evaluating('all', '--rules', 'fair.json'), 'OUTPUT_EXISTS', 2, 'finished comparison'],
    ['a folder of other things', evaluating('deep'), 'OUTPUT_EXISTS', 2, 'deep holds ffn'],
  ])('with --reference: %s', (_, args, code, exit, says) => expectMistake(args, code, exit, says));
});
