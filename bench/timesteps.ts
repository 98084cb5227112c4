/**
 * What scales chosen by timestep could bring: for every bucket of steps a model whose ranges are those of that bucket alone, judged on the steps
 * of that bucket, beside one model for all steps. No graph that picks its scales by the timestep can do better than the former. Both with the full
 * range seen, without smoothing and with one strength of it.
 *
 *   npm run build && npx tsx bench/timesteps.ts [--prompts N]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readCalibration } from '../src/calibrate/file.js';
import { bucketOf, ChannelExtremes } from '../src/calibrate/statistics.js';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { loadModel } from '../src/onnx/load.js';
import { NORMALIZE } from '../src/passes/normalize.js';
import { runPasses } from '../src/passes/pass.js';
import { fitPlan } from '../src/quantize/fit/plan.js';
import { makePlan, type PlanOptions } from '../src/quantize/plan.js';
import { type PlanFile, planToFile, writePlan } from '../src/quantize/plan-file.js';
import type { Results } from '../src/report/results.js';
import { calibrateMicro, evaluateMicro, MICRO_PIPELINE, quantizeMicro } from './lib/micro.js';
import { type Row, report } from './lib/report.js';

const BUCKETS = 5;
const HEADROOM = 1.1;

const { values } = parseArgs({ options: { prompts: { type: 'string', default: '8' } } });
const work = await mkdtemp(path.join(tmpdir(), 'wanq-timesteps-'));
const shared = await SharedReference.open();
try {
  const file = await calibrateMicro(work, Number(values.prompts));
  const rows: Row[] = [];
  for (const scheme of ['ffn', 'blocks'] as const) {
    for (const target of ['tensorrt', 'ort-cpu'] as const) {
      for (const smooth of ['none', 0.7] as const) {
        const options: PlanOptions = { scheme, target, method: 'minmax', smooth, percentile: 100, keep: [] };
        const plans = await plansOf(options, file);
        const judged: (Results | undefined)[] = [];
        for (const [i, plan] of plans.entries())
          judged.push(plan && (await judge(plan, file, `${scheme}-${target}-${smooth}-${i}`)));
        const [all, ...buckets] = judged as [Results, ...(Results | undefined)[]];
        const one = all.steps.map(({ sqnr }) => sqnr as number);
        const each = all.steps.map(({ timestep }, i) => {
          return (buckets[bucketOf(timestep / 1000, BUCKETS)] as Results).steps[i]?.sqnr as number;
        });
        const row = {
          scheme,
          activations: target === 'tensorrt' ? 'S8' : 'U8',
          smooth: String(smooth),
          'one scale, SQNR dB': mean(one),
          'worst step dB': Math.min(...one),
          'a scale for each of 5 buckets, SQNR dB': mean(each),
          'worst step dB ': Math.min(...each),
          'gain dB': mean(each) - mean(one),
        };
        rows.push(row);
        console.error(Object.values(row).join(' '));
      }
    }
  }
  await report('timesteps', {
    title: 'Scales by timestep',
    command: `npx tsx bench/timesteps.ts --prompts ${values.prompts}`,
    rows,
    notes: [
      `Ranges: ${HEADROOM} times what was seen, after smoothing. SQNR: teacher-forced, 4 prompts that calibration never saw, pooled over prompts, mean over steps and branches.`,
    ],
  });
} finally {
  await shared.close();
  await rm(work, { recursive: true, force: true });
}

/** @returns the plan over all steps, then one for each bucket that has steps */
async function plansOf(options: PlanOptions, file: string): Promise<(PlanFile | undefined)[]> {
  const calibration = await readCalibration(file);
  const loaded = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
  try {
    runPasses(loaded.model, NORMALIZE);
    const bound = makePlan(loaded.model.graph, options, calibration);
    const { plan, smoothed } = await fitPlan(bound, options, { calibration, file, weights: loaded });
    const factorsOf = new Map(smoothed.flatMap(({ linears, factors }) => linears.map((linear) => [linear, factors])));
    const withRanges = (of: (key: string) => boolean): PlanFile => {
      const { linears, ...rest } = planToFile(plan);
      const ranged = bound.planned.map(({ linear, row }) => {
        const name = row.key;
        const seen = new ChannelExtremes(linear.inFeatures);
        const statistics = calibration.activations.find(({ value }) => value === linear.activation);
        for (const { key, slice } of statistics?.slices() ?? []) {
          if (of(key)) seen.widen(slice.channelMin, slice.channelMax);
        }
        const factors = factorsOf.get(linear);
        const divided = (ends: Float32Array): number[] => Array.from(ends, (end, k) => end / (factors?.[k] ?? 1));
        const low = HEADROOM * Math.min(...divided(seen.channelMin));
        const high = HEADROOM * Math.max(...divided(seen.channelMax));
        const entry = linears[name];
        if (!entry) throw new Error(`${name} is not in the plan`);
        return [name, { ...entry, low, high }] as const;
      });
      return { ...rest, linears: Object.fromEntries(ranged) };
    };
    const [seen] = calibration.activations;
    const buckets = Array.from({ length: BUCKETS }, (_, bucket) => {
      const of = (key: string): boolean => key.endsWith(`/${bucket}`);
      return seen?.slices().some(({ key }) => of(key)) ? withRanges(of) : undefined;
    });
    return [withRanges(() => true), ...buckets];
  } finally {
    await loaded.close();
  }
}

async function judge(plan: PlanFile, calibration: string, name: string): Promise<Results> {
  const file = path.join(work, `${name}.json`);
  await writePlan(file, plan);
  const output = path.join(work, name);
  await quantizeMicro({ scheme: 'ffn', target: plan.target, method: plan.method, calibration, output, plan: file });
  const results = await evaluateMicro(output, MICRO_PIPELINE, true, shared);
  await rm(output, { recursive: true });
  return results;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
