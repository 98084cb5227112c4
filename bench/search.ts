/**
 * `wanq search` beside brute force over whole kinds of blocks, on the micro pipeline and its outlier twin: sizes, evaluations, time.
 *
 *   npx tsx bench/search.ts [--target ort-cpu|tensorrt] [--gain DB] [--model micro|twin] [--gate default|strict]
 *
 * Two gates: the default one; and one that all-INT8 cannot pass, whose SQNR has to be --gain dB above that plan's. Brute force goes through all subsets of
 * blocks x {attn1, attn2, ffn} that keep their precision, smallest first, until one passes; it measures SQNR over the same forwards as the evaluation does,
 * through switches in one session, and confirms what passes by the evaluation.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeOutlierTwin } from '../fixtures/outlier-twin/twin.js';
import { calibrate } from '../src/calibrate/calibrate.js';
import { evaluate } from '../src/evaluate/evaluate.js';
import { SharedReference } from '../src/evaluate/shared-reference.js';
import { judge } from '../src/gate/judge.js';
import { DEFAULT_RULES, type Rule } from '../src/gate/rules.js';
import { mean } from '../src/numerics/stats.js';
import { branchesAt } from '../src/pipeline/denoise.js';
import { describePipeline } from '../src/pipeline/open.js';
import { readPrompts } from '../src/pipeline/prompts.js';
import { readScheduler } from '../src/pipeline/schedulers/index.js';
import { encodePrompts } from '../src/pipeline/text-encoder.js';
import { type PlanFile, writePlan } from '../src/quantize/plan-file.js';
import { quantize } from '../src/quantize/quantize.js';
import type { Target } from '../src/quantize/target.js';
import type { Results } from '../src/report/results.js';
import { RuntimeHost } from '../src/runtime/host.js';
import { Measurement } from '../src/search/measurement.js';
import { planWithout } from '../src/search/plan-of.js';
import { chooseSamples, type SampleSpace, sampleLimit } from '../src/search/samples.js';
import { type SearchOptions, type SearchSummary, search } from '../src/search/search.js';
import { type CandidateGroup, kindOf, openSubject } from '../src/search/subject.js';
import { SwitchedTransformer } from '../src/search/switched-transformer.js';
import { Scratch } from '../src/util/scratch.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: 'ort-cpu' },
    gain: { type: 'string', default: '1.5' },
    model: { type: 'string' },
    gate: { type: 'string' },
  },
});
const target = values.target as Target;
const gain = Number(values.gain);
const root = path.resolve(fileURLToPath(new URL('..', import.meta.url)));
const micro = path.join(root, 'fixtures', 'micro-wan');
const prompts = await readPrompts(path.join(root, 'prompts', 'eval.txt'));
const sampling = { negativePrompt: '', guidance: 3, device: 'cpu' } as const;
const CPU = { providers: ['cpu'] };
/** What brute force may be off the evaluation, dB: what it finds below that is evaluated. */
const DOUBT = 0.1;

type Base = Omit<SearchOptions, 'rules' | 'cache' | 'output' | 'prompts' | 'features'>;

const work = await mkdtemp(path.join(tmpdir(), 'wanq-bench-search-'));
const rows: Row[] = [];
const predictions: string[] = [];
try {
  const twin = path.join(work, 'twin');
  await writeOutlierTwin(path.join(micro, 'pipeline'), twin, { link: true });
  for (const [name, pipeline] of [
    ['micro', path.join(micro, 'pipeline')],
    ['twin', twin],
  ] as const) {
    if (values.model !== undefined && values.model !== name) continue;
    const calibration = path.join(work, `${name}.safetensors`);
    const calibrated = (await readPrompts(path.join(root, 'prompts', 'calibration.txt'))).slice(0, 4);
    await calibrate({
      ...{ ...sampling, pipeline, prompts: calibrated, steps: 20, seed: 0 },
      ...{ output: calibration, buckets: 5, tokens: 'auto' },
    });
    const base: Base = {
      ...{
        ...sampling,
        pipeline,
        calibration,
        target,
        scheme: 'blocks',
        method: 'auto',
        smooth: 'auto',
        percentile: 99.999,
      },
      ...{ keep: [], steps: 8, seed: 1000, seedsPerPrompt: 1, sigmas: [0.3, 0.7], inspected: 2 },
      clips: path.join(micro, 'clips.safetensors'),
      sensitivityBudget: { samples: 16 },
      evaluations: 16,
    };
    // FVD needs more videos than its network has features.
    const many = { prompts: prompts.slice(0, 33), features: path.join(micro, 'fvd') };
    if (values.gate !== 'strict') await searched(name, 'default', { ...base, ...many, rules: DEFAULT_RULES });
    if (values.gate === 'default') continue;
    const few = { ...base, prompts: prompts.slice(0, 2) };
    const rule = { metric: 'sqnr', operator: '>=', level: 'error' } as const;
    const whole = await searched(name, 'none', { ...few, rules: [{ ...rule, limit: 0 }] });
    const limit = Number(((whole.trials[0]?.metrics.sqnr?.value as number) + gain).toFixed(2));
    const rules = [...DEFAULT_RULES.filter(({ metric }) => metric === 'psnr_drop'), { ...rule, limit }];
    const strict = { ...few, rules };
    predictions.push(predicted(name, await searched(name, `sqnr >= ${limit}`, strict)));
    await bruteForce(name, limit, strict);
  }
  await report('search', {
    title: 'Smallest plan that passes',
    command: ['npx tsx bench/search.ts', ...process.argv.slice(2)].join(' '),
    rows,
    notes: ['Bytes of all weights; plans are of scheme blocks, 8 steps, guidance scale 3.', ...predictions],
  });
} finally {
  await rm(work, { recursive: true, force: true });
}

async function searched(
  name: string,
  gate: string,
  options: Omit<SearchOptions, 'cache' | 'output'>,
): Promise<SearchSummary> {
  const start = performance.now();
  const output = path.join(work, `${name}-${gate}.json`);
  const summary = await search({ ...options, cache: path.join(work, `${name}-cache`), output });
  const { chosen, trials } = summary;
  for (const { givenBack, bytes, predictedSqnr, metrics, verdict } of trials) {
    const figures = ['sqnr', 'psnr_drop', 'fvd_growth'].map((key) => metrics[key]?.value?.toFixed(3) ?? '-');
    console.error(bytes, predictedSqnr.toFixed(3), ...figures, verdict.passed, givenBack.join(' '));
  }
  const seconds = (performance.now() - start) / 1000;
  if (gate !== 'none')
    add(name, gate, 'search', chosen?.bytes, chosen?.givenBack, chosen?.metrics.sqnr?.value, trials.length, seconds);
  return summary;
}

/** How well predictions did over the plans of a search. */
function predicted(name: string, { trials }: SearchSummary): string {
  const pairs = trials.map(({ predictedSqnr, metrics }) => [predictedSqnr, metrics.sqnr?.value as number] as const);
  const centred = ([0, 1] as const).map((side) => {
    const middle = mean(pairs.map((pair) => pair[side]));
    return pairs.map((pair) => pair[side] - middle);
  }) as [number[], number[]];
  const product = (a: number[], b: number[]): number => a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
  const [x, y] = centred;
  const correlation = product(x, y) / Math.sqrt(product(x, x) * product(y, y));
  const off = pairs.map(([expected, measured]) => measured - expected);
  const spread = Math.sqrt(mean(off.map((each) => (each - mean(off)) ** 2)));
  const figures = `correlation ${correlation.toFixed(4)}, measured minus predicted ${mean(off).toFixed(2)} dB on average, spread ${spread.toFixed(2)} dB`;
  return `${name}: predicted and measured SQNR of ${pairs.length} plans: ${figures}.`;
}

function add(
  model: string,
  gate: string,
  how: string,
  bytes: number | undefined,
  givenBack: readonly string[] | undefined,
  sqnr: number | null | undefined,
  evaluations: number,
  seconds: number,
): void {
  const row = {
    model,
    gate,
    how,
    bytes: bytes ?? null,
    'given back': givenBack?.join(' ') ?? null,
    SQNR: sqnr ?? null,
  };
  rows.push({ ...row, evaluations, seconds: Math.round(seconds) });
  console.error(rows.at(-1));
}

/** Smallest first, so that it can stop at the first that passes. */
async function bruteForce(
  name: string,
  limit: number,
  options: Omit<SearchOptions, 'cache' | 'output'>,
): Promise<void> {
  const start = performance.now();
  const subject = await openSubject(options);
  const { candidates, folder, prepared } = subject;
  const kinds = subject.groups.filter((group) => kindOf(group.name) === group.name);
  const sizes = kinds.map(({ members }) => members.reduce((sum, i) => sum + (candidates[i]?.bytesSaved as number), 0));
  const subsets = Array.from({ length: 2 ** kinds.length }, (_, bits) => {
    const own = kinds.map((_, k) => k).filter((k) => bits & (2 ** k));
    return { own, bytes: own.reduce((sum, k) => sum + (sizes[k] as number), 0) };
  }).sort((a, b) => a.bytes - b.bytes);

  const shape = await describePipeline(folder, options);
  const makeScheduler = await readScheduler(folder);
  const scratch = await Scratch.open();
  const host = new RuntimeHost();
  const shared = await SharedReference.open();
  let [measured, evaluated] = [0, 0];
  try {
    const embeddings = await encodePrompts(folder, host, CPU, [...options.prompts, '']);
    const transformer = await SwitchedTransformer.open(host, subject, shape, scratch.folder, CPU);
    const measurement = new Measurement(transformer, { ...options, shape, makeScheduler, embeddings, scratch });
    const space: SampleSpace = {
      ...{ prompts: options.prompts.length, branches: branchesAt(options.guidance), buckets: 1 },
      scheduler: makeScheduler(options.steps),
    };
    const samples = chooseSamples(sampleLimit(space), space);
    for (const prompt of options.prompts.keys()) {
      await measurement.record(
        prompt,
        samples.filter((sample) => sample.prompt === prompt),
        () => {},
      );
    }
    for (const { own, bytes } of subsets) {
      const givenBack = new Set(own.flatMap((k) => [...(kinds[k] as CandidateGroup).members]));
      const left = [...candidates.keys()].filter((i) => !givenBack.has(i));
      const figures: number[] = [];
      for (const sample of samples) figures.push(-10 * Math.log10(await measurement.noise(sample, left)));
      measured++;
      if (mean(figures) < limit - DOUBT) continue;
      evaluated++;
      const metrics = await written(
        path.join(work, `${name}-brute-${evaluated}`),
        planWithout(subject, givenBack),
        options,
        shared,
      );
      console.error(
        'brute force',
        own.map((k) => kinds[k]?.name),
        mean(figures).toFixed(3),
        metrics.sqnr?.value?.toFixed(3),
      );
      if (!judge(metrics, options.rules as readonly Rule[]).passed) continue;
      const names = own.map((k) => kinds[k]?.name as string);
      const seconds = (performance.now() - start) / 1000;
      add(
        name,
        `sqnr >= ${limit}`,
        `brute force (${measured} plans)`,
        prepared.plan.bytesAfter + bytes,
        names,
        metrics.sqnr?.value,
        evaluated,
        seconds,
      );
      return;
    }
  } finally {
    await host.close();
    await scratch.close();
    await shared.close();
    await subject.loaded.close();
  }
}

/** Quantizes by a plan and evaluates what was written. */
async function written(
  quantized: string,
  plan: PlanFile,
  options: Omit<SearchOptions, 'cache' | 'output'>,
  shared: SharedReference,
): Promise<Results['metrics']> {
  const { pipeline, calibration, scheme, method, percentile } = options;
  const file = `${quantized}.json`;
  await writePlan(file, plan);
  await quantize({
    ...{ pipeline, calibration, scheme, target, method, percentile, keep: [] },
    ...{ plan: file, output: quantized, link: true, verify: 'load' },
  });
  const how = { ...options, onProgress: undefined, noiseFloor: 'none', shared } as const;
  return (await evaluate({ ...how, reference: pipeline, quantized })).metrics;
}
