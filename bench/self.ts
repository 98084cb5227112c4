/**
 * A model against itself, and against itself with weights rounded to FP16, with 20 seeds: what must not fail, and the noise floor of an evaluation
 * beside an evaluation of that rounded model.
 *
 *   npm run build && npx tsx bench/self.ts [--seeds N]
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { evaluate } from '../src/evaluate/evaluate.js';
import { judge } from '../src/gate/judge.js';
import { PRESETS } from '../src/gate/presets.js';
import type { Rule } from '../src/gate/rules.js';
import { loadModel } from '../src/onnx/load.js';
import { saveModel } from '../src/onnx/save.js';
import { runPasses } from '../src/passes/pass.js';
import { roundWeights } from '../src/passes/round-weights.js';
import { MICRO, MICRO_PIPELINE, metricOf, promptsOf, SAMPLING } from './lib/micro.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '20' } } });
const RULES = PRESETS.get('wanq:no-features') as readonly Rule[];

const work = await mkdtemp(path.join(tmpdir(), 'wanq-self-'));
try {
  const rounded = path.join(work, 'fp16-weights');
  await cp(MICRO_PIPELINE, rounded, { recursive: true, filter: (from) => !from.includes('transformer/model.onnx') });
  const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
  runPasses(loaded.model, [roundWeights]);
  await saveModel(loaded.model, loaded, path.join(rounded, 'transformer'));
  await loaded.close();

  const prompts = await promptsOf('eval', 2);
  const rows: Row[] = [];
  for (let i = 0; i < Number(values.seeds); i++) {
    const options = {
      ...{ ...SAMPLING, steps: 10, guidance: 3, reference: MICRO_PIPELINE, prompts, seedsPerPrompt: 1 },
      ...{ seed: 2000 + 10 * i, sigmas: [0.3, 0.7], clips: path.join(MICRO, 'clips.safetensors'), inspected: 2 },
    };
    const self = await evaluate({ ...options, quantized: MICRO_PIPELINE, noiseFloor: 'fp16-weights' });
    const other = await evaluate({ ...options, quantized: rounded, noiseFloor: 'none' });
    const verdict = (results: typeof self): string =>
      judge(results.metrics, RULES, { prompts: prompts.length }).passed ? 'passed' : 'failed';
    rows.push({
      seed: options.seed,
      itself: verdict(self),
      'rounded to FP16': verdict(other),
      'noise floor PSNR, dB': metricOf(self, 'psnr_floor'),
      'PSNR of the rounded model, dB': metricOf(other, 'psnr'),
      'its SQNR, dB': metricOf(other, 'sqnr'),
    });
    console.error(Object.values(rows.at(-1) as Row).join(' '));
  }
  const failures = rows.filter((row) => row.itself !== 'passed' || row['rounded to FP16'] !== 'passed').length;
  await report('self', {
    title: 'A model against itself, and against itself with weights rounded to FP16',
    command: `npx tsx bench/self.ts --seeds ${values.seeds}`,
    rows,
    notes: [`${failures} of ${2 * rows.length} evaluations failed the gate \`wanq:no-features\``],
  });
} finally {
  await rm(work, { recursive: true, force: true });
}
