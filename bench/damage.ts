/**
 * Models that are well in all but one linear, damaged on purpose, under the recommended gate without FVD: how many fail, and how many have the
 * damaged linear named first; beside healthy plans, which must pass.
 *
 *   npm run build && npx tsx bench/damage.ts [--every N] [--prompts N] [--damage scaled,coarse,channel,shuffled]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { evaluate } from '../src/evaluate/evaluate.js';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { worstLinears } from '../src/gate/blame.js';
import { judge } from '../src/gate/judge.js';
import { PRESETS } from '../src/gate/presets.js';
import type { Rule } from '../src/gate/rules.js';
import { readPlan } from '../src/quantize/plan-file.js';
import type { Results } from '../src/report/results.js';
import { DAMAGES, type Damage, damagedPipeline } from '../test/helpers/damage.js';
import { calibrateMicro, MICRO_PIPELINE, metricOf, promptsOf, quantizeMicro, SAMPLING } from './lib/micro.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: {
    every: { type: 'string', default: '1' },
    prompts: { type: 'string', default: '4' },
    damage: { type: 'string' },
  },
});
const RULES = PRESETS.get('wanq:no-features') as readonly Rule[];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-damage-'));
const shared = await SharedReference.open();
try {
  const calibration = await calibrateMicro(work, Number(values.prompts));
  const prompts = await promptsOf('eval', 1);
  const judged = async (quantized: string): Promise<{ results: Results; passed: boolean }> => {
    const results = await evaluate({
      ...{ ...SAMPLING, steps: 8, guidance: 1, reference: MICRO_PIPELINE, quantized, prompts, seedsPerPrompt: 1 },
      ...{ seed: 1000, sigmas: [0.5], inspected: 1, noiseFloor: 'none', shared },
    });
    return { results, passed: judge(results.metrics, RULES, { prompts: prompts.length }).passed };
  };
  const excessOf = ({ results }: { results: Results }): number => metricOf(results, 'linear_excess');

  const healthy: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const target of ['ort-cpu', 'tensorrt', 'ort-cuda', 'webgpu'] as const) {
      for (const [method, smooth] of [
        ['auto', 'auto'],
        ['kl', 'none'],
        ['minmax', 'none'],
      ] as const) {
        const output = path.join(work, [scheme, target, method].join('-'));
        await quantizeMicro({ calibration, output, scheme, target, method, smooth });
        const outcome = await judged(output);
        healthy.push({
          ...{ scheme, target, ranges: method, gate: outcome.passed ? 'passed' : 'failed' },
          'largest excess, dB': excessOf(outcome),
          'worst linear, dB': metricOf(outcome.results, 'linear_sqnr_min'),
        });
      }
    }
  }
  await report('damage-healthy', {
    title: 'Healthy plans under the gate',
    command: 'npx tsx bench/damage.ts',
    rows: healthy,
  });

  const source = path.join(work, 'blocks-tensorrt-auto');
  const { linears: plan } = await readPlan(path.join(source, 'transformer', 'plan.json'));
  const roles = Object.keys(plan).filter((_, i) => i % Number(values.every) === 0);
  const rows: Row[] = [];
  for (const damage of (values.damage?.split(',') ?? Object.keys(DAMAGES)) as Damage[]) {
    let [failed, first, alike] = [0, 0, 0];
    const excesses: number[] = [];
    const drops: number[] = [];
    for (const role of roles) {
      const target = path.join(work, 'damaged');
      await damagedPipeline(source, target, role, damage);
      const { results, passed } = await judged(target);
      await rm(target, { recursive: true });
      if (!passed) failed++;
      const named = worstLinears(results, 1)[0]?.linear ?? '';
      if (named === role) first++;
      if (plan[named]?.input === plan[role]?.input) alike++;
      excesses.push(results.linears.find(({ linear }) => linear === role)?.excess ?? Number.NaN);
      drops.push(metricOf(results, 'psnr_drop'));
    }
    rows.push({
      damage: DAMAGES[damage],
      linears: roles.length,
      'gate failed': failed,
      'named first': first,
      'it, or one with the same input': alike,
      'least excess, dB': Math.min(...excesses),
      'largest PSNR drop, dB': Math.max(...drops),
      'PSNR drop alone would have failed': drops.filter((drop) => drop > 3).length,
    });
    console.error(Object.values(rows.at(-1) as Row).join(' '));
  }
  await report('damage', {
    title: 'One linear of scheme `blocks`, target `tensorrt`, damaged at a time',
    command: `npx tsx bench/damage.ts --every ${values.every}`,
    rows,
    notes: ['Linears that read one activation share its scale: with it four times as large, any of them may be named.'],
  });
} finally {
  await shared.close();
  await rm(work, { recursive: true, force: true });
}
