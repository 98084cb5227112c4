import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import type { EvaluateOptions } from '../../../src/evaluate/options.js';
import { SharedReference } from '../../../src/evaluate/shared-reference.js';
import { blameLines } from '../../../src/gate/blame.js';
import { PRESETS } from '../../../src/gate/presets.js';
import type { Rule } from '../../../src/gate/rules.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { evaluateInto, type Judged } from '../../../src/remedy/evaluation.js';
import { DAMAGES, type Damage, damagedPipeline } from '../../helpers/damage.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

/** Without FVD, which no handful of videos has. */
const RULES = PRESETS.get('wanq:no-features') as readonly Rule[];

const PROMPTS = [
  'a small red circle moving left over a dark background',
  'a large blue ring spinning over a gray background',
];

const folder = temporaryFolder();
const healthy = path.join(folder, 'int8');
let shared: SharedReference;

beforeAll(async () => {
  const calibration = path.join(folder, 'calibration.safetensors');
  const sampling = { prompts: PROMPTS, negativePrompt: '', steps: 8, guidance: 1, device: 'cpu' };
  await calibrate({ ...sampling, pipeline: MICRO_PIPELINE, seed: 0, output: calibration, buckets: 2, tokens: 'auto' });
  await quantize({
    ...{ pipeline: MICRO_PIPELINE, output: healthy, calibration, scheme: 'blocks', target: 'tensorrt' },
    ...{ method: 'auto', smooth: 'auto', percentile: 99.999, keep: [], link: true },
  });
  shared = await SharedReference.open();
  return () => shared.close();
}, 120_000);

async function judged(name: string, quantized: string, changes: Partial<EvaluateOptions> = {}): Promise<Judged> {
  const report = path.join(folder, `report-${name}`);
  await mkdir(report);
  return evaluateInto(
    report,
    {
      ...{ reference: MICRO_PIPELINE, quantized, prompts: PROMPTS.slice(0, 1), negativePrompt: '', seed: 5 },
      ...{ seedsPerPrompt: 1, steps: 4, guidance: 1, sigmas: [0.5], inspected: 1, noiseFloor: 'none', device: 'cpu' },
      shared,
      ...changes,
    },
    RULES,
  );
}

it('passes a healthy model, which errs no more than rounding does', async () => {
  const { verdict, results } = await judged('healthy', healthy);
  expect(verdict.checks.filter(({ passed }) => !passed)).toEqual([]);
  expect(verdict.passed).toBe(true);
  expect(results.linears).toHaveLength(66);
  expect(results.linears.filter(({ scaleRatio }) => scaleRatio === 1)).toHaveLength(60);
});

describe('a model with one linear damaged', () => {
  it.each<[Damage, string]>([
    ['scaled', 'blocks.2.ffn.down'],
    ['channel', 'blocks.4.attn1.v'],
    ['coarse', 'blocks.3.attn1.out'],
    ['shuffled', 'blocks.1.attn2.q'],
  ])('fails, and is named first: %s %s', async (damage, role) => {
    const name = `${damage}-${role}`;
    const quantized = await damagedPipeline(healthy, path.join(folder, name), role, damage);
    const { verdict, results } = await judged(name, quantized);
    expect(verdict.passed, DAMAGES[damage]).toBe(false);
    const [first] = blameLines(results);
    expect(first).toContain(`look first at linear ${role}:`);
    const report = path.join(folder, `report-${name}`);
    const markdown = await readFile(path.join(report, 'report.md'), 'utf8');
    expect(markdown.split('\n').find((line) => line.startsWith('| blocks.'))).toContain(`| ${role} |`);
    expect(await readFile(path.join(report, 'report.html'), 'utf8')).toContain(role);
  });
});

it('ends at once where the calibration for the histograms is none', async () => {
  const report = path.join(folder, 'report-uncalibrated');
  await mkdir(report);
  const stages = new Set<string>();
  const evaluated = evaluateInto(
    report,
    {
      ...{ reference: MICRO_PIPELINE, quantized: healthy, prompts: PROMPTS, negativePrompt: '', seed: 5, steps: 50 },
      ...{ seedsPerPrompt: 1, guidance: 5, sigmas: [0.5], inspected: 2, noiseFloor: 'fp16-weights', device: 'cpu' },
      onProgress: ({ stage }) => stages.add(stage),
    },
    RULES,
    { calibration: path.join(healthy, 'transformer', 'plan.json') },
  );
  await expect(evaluated).rejects.toMatchObject({ code: 'SAFETENSORS_INVALID' });
  expect([...stages]).not.toContain('quantized model');
});

it('fails nothing of the reference held against itself', async () => {
  const { verdict } = await judged('self', MICRO_PIPELINE, { seed: 11, shared: undefined });
  expect(verdict.checks.filter(({ passed }) => !passed)).toEqual([]);
});
