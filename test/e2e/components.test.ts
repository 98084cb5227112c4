import { lstatSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PipelineMemory } from '../../src/cli/actions/inspect-memory.js';
import type { ComponentPlan } from '../../src/quantize/components/component.js';
import { readResults } from '../../src/report/results.js';
import { type Outcome, PROMPTS, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const sampling = ['--prompts', 'prompts.txt', '--steps', '1', '--guidance', '1', '--device', 'cpu'];
const choice = ['--calibration', 'calibration', '--text-encoder', 'w8', '--vae', 'fp16'];
let quantized: Outcome;

beforeAll(async () => {
  place.write('prompts.txt', PROMPTS[0] as string);
  await place.succeed(['calibrate', MICRO_PIPELINE, ...sampling, '-o', 'calibration']);
  quantized = await place.succeed(['quantize', MICRO_PIPELINE, ...choice, '--link', '-o', 'small']);
}, 100_000);

describe('quantize --text-encoder w8 --vae fp16', () => {
  it('says what became of each component, and how it was checked', () => {
    const [transformer, ...components] = quantized.stdout.trimEnd().split('\n');
    expect(transformer).toContain('12 of 67 linears in INT8');
    expect(components).toEqual([
      expect.stringMatching(/^text_encoder: 4 of 14 linears and the token table stored as INT8: 476.86 kB -> 309/),
      expect.stringMatching(/^vae_decoder: 30 kernels stored as FP16, cast back .* 7.15 MB -> 3.80 MB of weights$/),
      expect.stringMatching(/^vae_encoder: 22 kernels stored as FP16, /),
    ]);
    const checked = quantized.stderr.split('\n').filter((line) => line.startsWith('checked: '));
    expect(checked).toHaveLength(4);
    for (const line of checked) expect(line).toMatch(/loads and runs, \d+\.\d dB SQNR against the original/);
  });

  it('writes those anew and links the others', () => {
    const isLink = (name: string): boolean => lstatSync(place.path('small', name)).isSymbolicLink();
    expect(['text_encoder', 'vae_decoder', 'vae_encoder', 'transformer'].map(isLink)).toEqual(new Array(4).fill(false));
    expect(['tokenizer', 'scheduler'].map(isLink)).toEqual([true, true]);
    const config = (root: string): string => readFileSync(path.join(root, 'vae_decoder', 'config.json'), 'utf8');
    expect(config(place.path('small'))).toBe(config(MICRO_PIPELINE));
  });

  it('plans the same without writing', async () => {
    const before = place.listing();
    const { stdout } = await place.succeed(['quantize', MICRO_PIPELINE, ...choice, '--dry-run', '--json']);
    const { components } = JSON.parse(stdout) as { components: ComponentPlan[] };
    expect(components.map(({ component, form }) => [component, form])).toEqual([
      ['text_encoder', 'w8'],
      ['vae_decoder', 'fp16'],
      ['vae_encoder', 'fp16'],
    ]);
    const table = await place.succeed([
      'quantize',
      MICRO_PIPELINE,
      '--vae',
      'fp16',
      '--target',
      'tensorrt',
      '--dry-run',
    ]);
    expect(table.stdout).toMatch(/^vae_decoder: 30 kernels stored as FP16, 110 of 148 products computed in it/m);
    expect(place.listing()).toEqual(before);
  });

  it.each<[string, string[], number, RegExp]>([
    ['an unknown form', ['--text-encoder', 'int4'], 2, /'int4' is invalid.*Allowed choices are w8/s],
    ['a component that is not there', ['--text-encoder', 'w8'], 3, /no text_encoder\/model.onnx.*--text-encoder w8/],
  ])('refuses %s', async (_, args, code, message) => {
    const bare = code === 3 ? place.path('small', 'nothing') : MICRO_PIPELINE;
    if (code === 3) await place.succeed(['import', path.join(MICRO_PIPELINE, '..', 'checkpoint'), '-o', bare]);
    const outcome = await place.wanq(['quantize', bare, ...args, '--dry-run']);
    expect([outcome.code, outcome.stdout]).toEqual([code, '']);
    expect(outcome.stderr).toMatch(message);
  });
});

it('inspect predicts the memory of either pipeline', async () => {
  const memoryOf = async (pipeline: string, ...args: string[]): Promise<PipelineMemory> => {
    const { stdout } = await place.succeed(['inspect', pipeline, '--json', ...args]);
    return (JSON.parse(stdout) as { memory: PipelineMemory }).memory;
  };
  const [before, after] = await Promise.all([memoryOf(MICRO_PIPELINE), memoryOf('small')]);
  expect(before.activations?.size).toEqual([17, 128, 128]);
  for (const [i, { component, stored, cpu }] of after.components.entries()) {
    expect(stored, component).toBeLessThan(before.components[i]?.stored as number);
    expect(cpu, component).toBeLessThanOrEqual(before.components[i]?.cpu as number);
  }
  const opened = before.components.filter(({ component }) => component !== 'vae_encoder');
  expect(before.together.stored).toBe(opened.reduce((sum, { stored }) => sum + stored, 0));
  expect(before.oneByOne.stored).toBe(Math.max(...opened.map(({ stored }) => stored)));
  expect(before.together.cpu).toBeGreaterThan(before.oneByOne.cpu);
  const { stdout } = await place.succeed(['inspect', 'small']);
  expect(stdout).toContain('transformer, activations of 17 x 128 x 128');
  const wrong = await place.wanq(['inspect', 'small', '--frames', '18']);
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('18 frames cannot be encoded')]);
});

it('eval measures each component, and the gate judges them', async () => {
  const rules = [
    { metric: 'text_encoder_sqnr', operator: '>=', limit: 40 },
    { metric: 'vae_decoder_psnr', operator: '>=', limit: 60 },
    { metric: 'pipeline_psnr', operator: '>=', limit: 1000 },
  ];
  place.write('rules.json', JSON.stringify({ rules }));
  const measure = [
    '--sigmas',
    '0.5',
    '--inspected',
    '1',
    '--noise-floor',
    'none',
    '--no-linears',
    '--gate',
    'rules.json',
  ];
  const outcome = await place.wanq(['eval', MICRO_PIPELINE, 'small', ...sampling, ...measure, '-o', 'report']);
  expect(outcome.code).toBe(1);
  const told = outcome.stdout.split('\n').filter((line) => /^(ok|FAILED) /.test(line));
  expect(told).toEqual([
    expect.stringMatching(/^ok +text_encoder_sqnr = /),
    expect.stringMatching(/^ok +vae_decoder_psnr = /),
    expect.stringMatching(/^FAILED pipeline_psnr = /),
  ]);
  expect(outcome.stdout).toContain('VAE decoder alone: PSNR');
  const { components } = await readResults(place.path('report', 'results.json'));
  expect(components?.changed).toHaveLength(3);
  expect(readFileSync(place.path('report', 'report.md'), 'utf8')).toContain('\n## Components\n');
});
