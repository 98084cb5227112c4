import { existsSync } from 'node:fs';
import path from 'node:path';
import { ExitCode, printable, WanqError } from '../../errors.js';
import { type Journal, withJournal } from '../../evaluate/journal.js';
import type { EvaluateOptions } from '../../evaluate/options.js';
import { SharedReference } from '../../evaluate/shared-reference.js';
import { readBaseline } from '../../gate/baseline.js';
import { compareBaseline } from '../../gate/compare.js';
import { withBaseline } from '../../gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { fingerprint, loadModel } from '../../onnx/load.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { adviseOn } from '../../remedy/advice.js';
import { evaluateInto } from '../../remedy/evaluation.js';
import { assertRemediable } from '../../remedy/ladder.js';
import { formatBytes, formatInterval, formatMetric, titledMetrics } from '../../report/format.js';
import { figureText, type Results, resultsToJson } from '../../report/results.js';
import { readSensitivityFigures } from '../../search/sensitivity-file.js';
import { partialPath, writeFolderResumable } from '../../util/resumable.js';
import { temporarySibling } from '../../util/temporary.js';
import { argumentsOf } from '../arguments.js';
import type { Action } from '../command.js';
import { evalOptions } from '../eval-options.js';
import { assertGateOutputs, type GateOutputFlags, writeGateOutputs } from '../gate-outputs.js';
import { measuringOptions } from '../measuring-options.js';
import { samplingOptions } from '../options.js';
import { adviceText } from '../ui/ladder.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { verdictText } from '../ui/verdict.js';
import { mend, type RemedyFlags, remedyRequest } from './eval-remedy.js';

type Flags = Omit<
  EvaluateOptions,
  'reference' | 'quantized' | 'prompts' | 'sensitivities' | 'shared' | 'journal' | 'signal' | `on${string}`
> &
  RemedyFlags &
  Omit<GateOutputFlags, 'rules'> & {
    readonly prompts: string;
    readonly output: string;
    readonly sensitivity?: string;
    readonly gate?: string | true;
  };

export const run: Action = async (context, { positional, flags }) => {
  const [reference, quantized] = positional as [string, string];
  const { prompts: file, output, gate, sensitivity, weights, ...given } = flags as unknown as Flags;
  const { markdown, junit, baseline, ...rest } = given;
  const { remedy: _, calibration, samples, budget, evaluations, giveBack, ...others } = rest;
  const { checkpoint, calibrationPrompts, ...options } = others;
  const prompts = await readPrompts(file);
  const outputs = { markdown, junit, baseline, rules: typeof gate === 'string' ? gate : undefined };
  if (gate === undefined && (markdown ?? junit ?? baseline) !== undefined) {
    throw new WanqError('USAGE', '--markdown, --junit and --baseline are of a verdict', { hint: 'add --gate' });
  }
  await assertGateOutputs(outputs, []);
  const rules = typeof gate === 'string' ? await readRules(gate) : DEFAULT_RULES;
  const before = baseline === undefined ? undefined : await readBaseline(baseline);
  const sensitivities = sensitivity === undefined ? undefined : await figuresOf(sensitivity, reference);
  const measured = { ...options, prompts };
  const request = remedyRequest(context, rest, { reference, quantized, output, rules, measured });
  const failing = request && (await assertRemediable(request));
  const advising = {
    ...{ reference, quantized, calibration, checkpoint, calibrationPrompts, giveBack: giveBack / 100 },
    report: output,
    measuring: argumentsOf([...samplingOptions({ seed: 1000, promptsRequired: true }), ...measuringOptions()], flags),
    evaluating: ['--noise-floor', options.noiseFloor],
    negativePrompt: options.negativePrompt,
    rules: outputs.rules,
  };
  const again = argumentsOf(evalOptions(), flags);
  let shared: SharedReference | undefined;
  try {
    const progress = startProgress(context, 'loading the pipelines');
    const measure = async (folder: string, journal: Journal): Promise<Evaluated> => {
      // Remedies go on with the reference's arrays.
      const shared = request && (await SharedReference.open(journal.scratch));
      const evaluated = await evaluateInto(
        folder,
        {
          ...measured,
          ...{ reference, quantized, weights, sensitivities, shared, journal, signal: context.signal },
          onProgress: ({ stage, done, total }) => progress.update(`${stage}: ${done}/${total}`),
        },
        rules,
        {
          calibration,
          command: ['wanq', 'eval', reference, quantized, ...again, '-o', output],
          judged: (verdict, results) => (before ? withBaseline(verdict, compareBaseline(before, results)) : verdict),
          advise: ({ results, verdict }) => adviseOn(advising, verdict, { folder, ...differences(results) }),
        },
      );
      return { ...evaluated, shared, resumed: journal.resumed };
    };
    const judged = await writeFolderResumable(
      output,
      (folder, kept) => withJournal(kept, (journal) => measure(folder, journal)),
      async (evaluated) => evaluated.shared?.scratch.moveTo(temporarySibling(output)),
    )
      .catch((error) => {
        const partial = partialPath(output);
        if (existsSync(partial) && keepsWork(error)) {
          context.say(`${printable(partial)} keeps what was finished: the same command goes on from there`);
        }
        throw error;
      })
      .finally(() => progress.stop());
    ({ shared } = judged);
    if (judged.resumed > 0) context.say(`took ${judged.resumed} finished steps over from an interrupted evaluation`);
    const { results, verdict, advice } = judged;
    if (gate !== undefined) await writeGateOutputs(context, verdict, results, outputs);
    for (const note of warnings(results)) context.say(`warning: ${note}`);
    if (!context.json) {
      context.print(resultsTable(results));
      context.print(verdictText(verdict, undefined, results));
      context.print(`report: ${path.join(output, 'report.html')}`);
    }
    const mended = request && failing && shared && (await mend(context, request, failing, judged, shared, advising));
    if (context.json) {
      const { rungs, passed } = mended ?? {};
      const remedied = mended && { rungs, passed: passed ?? null };
      const value = { ...JSON.parse(resultsToJson(results)), verdict, advice, remedy: remedied };
      context.print(JSON.stringify(value, figureText, 2));
    } else if (advice && !mended) {
      context.print(adviceText(advice));
    }
    return gate !== undefined && !verdict.passed && !mended?.passed ? ExitCode.gateFailed : undefined;
  } finally {
    await shared?.close();
  }
};

type Evaluated = Awaited<ReturnType<typeof evaluateInto>> & {
  readonly shared: SharedReference | undefined;
  /** Steps that an interrupted evaluation had finished. */
  readonly resumed: number;
};

/** Whether a failure is of this run, and not of what lies where it was to be written. */
function keepsWork(error: unknown): boolean {
  return !(error instanceof WanqError) || !['LOCKED', 'OUTPUT_EXISTS', 'CACHE_INVALID'].includes(error.code);
}

/** SQNR of linears from a sensitivity file of the reference. */
async function figuresOf(file: string, reference: string): Promise<ReadonlyMap<string, number>> {
  const loaded = await loadModel(path.join(reference, 'transformer', 'model.onnx'));
  try {
    return await readSensitivityFigures(file, await fingerprint(loaded));
  } finally {
    await loaded.close();
  }
}

/** What the advice needs to know of the two pipelines. */
function differences({ reference, components }: Results): { model: string; changed: string[] } {
  return { model: reference.fingerprint, changed: components?.changed.map(({ component }) => component) ?? [] };
}

/** What a reader of the figures must know first. */
function warnings({ metrics, quantized, devices }: Results): string[] {
  const { fvd_growth: growth } = metrics;
  return [
    ...(growth && growth.value === null && growth.n > 0 ? [`FVD is ${growth.note ?? 'not measured'}`] : []),
    ...(quantized.calibratedOn === 'synthetic' ? ['the quantized model was calibrated on random embeddings'] : []),
    ...fallbacks(devices),
  ];
}

/** Of providers that were tried in vain, one line for each set of them. */
function fallbacks(devices: Results['devices']): string[] {
  const components = new Map<string, string[]>();
  for (const { component, ran, refused } of devices) {
    if (refused.length === 0) continue;
    const how = `ran on ${ran}, which ${refused.map(({ provider }) => provider).join(', ')} refused (why: see the report)`;
    components.set(how, [...(components.get(how) ?? []), component]);
  }
  return [...components].map(([how, names]) => `${names.join(', ')} ${how}`);
}

function resultsTable({ metrics, reference, quantized, components }: Results): string {
  const rows = titledMetrics(metrics).map(({ title, metric }) => [
    title,
    formatMetric(metric),
    formatInterval(metric),
    String(metric.n),
    metric.note ?? '',
  ]);
  const both = (a: string, b: string): string => `${a} -> ${b}`;
  rows.push(
    ['transformer', both(formatBytes(reference.transformerBytes), formatBytes(quantized.transformerBytes)), '', '', ''],
    ...(components?.changed ?? []).map(({ component, reference: before, quantized: after }) => {
      return [component, both(formatBytes(before.bytes), formatBytes(after.bytes)), '', '', ''];
    }),
    ['peak memory', both(formatBytes(reference.peakBytes), formatBytes(quantized.peakBytes)), '', '', ''],
    ['forward', both(`${reference.forwardMs.toFixed(1)} ms`, `${quantized.forwardMs.toFixed(1)} ms`), '', '', ''],
    ['ran on', both(reference.provider, quantized.provider), '', '', ''],
    ['calibrated on', both(reference.calibratedOn ?? '-', quantized.calibratedOn ?? '-'), '', '', ''],
  );
  return renderTable(['metric', 'value', '95 % interval', 'n', 'note'], rows, [1, 3]);
}
