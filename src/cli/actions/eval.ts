import path from 'node:path';
import { ExitCode } from '../../errors.js';
import type { EvaluateOptions } from '../../evaluate/options.js';
import { SharedReference } from '../../evaluate/shared-reference.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { adviseOn } from '../../remedy/advice.js';
import { evaluateInto } from '../../remedy/evaluation.js';
import { assertRemediable } from '../../remedy/ladder.js';
import { formatBytes, formatMetric, titledMetrics } from '../../report/format.js';
import { figureText, type Results, resultsToJson } from '../../report/results.js';
import { writeFolderAtomic } from '../../util/files.js';
import { argumentsOf } from '../arguments.js';
import type { Action } from '../command.js';
import { measuringOptions } from '../measuring-options.js';
import { samplingOptions } from '../options.js';
import { adviceText } from '../ui/ladder.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { verdictText } from '../ui/verdict.js';
import { mend, type RemedyFlags, remedyRequest } from './eval-remedy.js';

type Flags = Omit<EvaluateOptions, 'reference' | 'quantized' | 'prompts' | 'shared' | 'signal' | `on${string}`> &
  RemedyFlags & {
    readonly prompts: string;
    readonly output: string;
    readonly gate?: string | true;
  };

export const run: Action = async (context, { positional, flags }) => {
  const [reference, quantized] = positional as [string, string];
  const { prompts: file, output, gate, ...rest } = flags as unknown as Flags;
  const { remedy: _, calibration, samples, budget, evaluations, giveBack, ...others } = rest;
  const { checkpoint, calibrationPrompts, ...options } = others;
  const prompts = await readPrompts(file);
  const rules = typeof gate === 'string' ? await readRules(gate) : DEFAULT_RULES;
  const measured = { ...options, prompts };
  const request = remedyRequest(context, rest, { reference, quantized, output, rules, measured });
  const failing = request && (await assertRemediable(request));
  const advising = {
    ...{ reference, quantized, calibration, checkpoint, calibrationPrompts, giveBack: giveBack / 100 },
    report: output,
    measuring: argumentsOf([...samplingOptions({ seed: 1000, promptsRequired: true }), ...measuringOptions()], flags),
    evaluating: ['--noise-floor', options.noiseFloor],
    negativePrompt: options.negativePrompt,
    rules: typeof gate === 'string' ? gate : undefined,
  };
  const shared = request && (await SharedReference.open());
  try {
    const progress = startProgress(context, 'loading the pipelines');
    const judged = await writeFolderAtomic(output, (folder) =>
      evaluateInto(
        folder,
        {
          ...measured,
          ...{ reference, quantized, shared, signal: context.signal },
          onProgress: ({ stage, done, total }) => progress.update(`${stage}: ${done}/${total}`),
        },
        rules,
        { advise: ({ results, verdict }) => adviseOn(advising, verdict, { folder, ...differences(results) }) },
      ),
    ).finally(() => progress.stop());
    const { results, verdict, advice } = judged;
    if (!context.json) {
      context.print(resultsTable(results));
      context.print(verdictText(verdict));
      context.print(`report: ${path.join(output, 'report.md')}`);
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

/** What the advice needs to know of the two pipelines. */
function differences({ reference, components }: Results): { model: string; changed: string[] } {
  return { model: reference.fingerprint, changed: components?.changed.map(({ component }) => component) ?? [] };
}

function resultsTable({ metrics, reference, quantized, components }: Results): string {
  const rows = titledMetrics(metrics).map(({ title, metric }) => [
    title,
    formatMetric(metric),
    String(metric.n),
    metric.note ?? '',
  ]);
  const both = (a: string, b: string): string => `${a} -> ${b}`;
  rows.push(
    ['transformer', both(formatBytes(reference.transformerBytes), formatBytes(quantized.transformerBytes)), '', ''],
    ...(components?.changed ?? []).map(({ component, reference: before, quantized: after }) => {
      return [component, both(formatBytes(before.bytes), formatBytes(after.bytes)), '', ''];
    }),
    ['peak memory', both(formatBytes(reference.peakBytes), formatBytes(quantized.peakBytes)), '', ''],
    ['forward', both(`${reference.forwardMs.toFixed(1)} ms`, `${quantized.forwardMs.toFixed(1)} ms`), '', ''],
    ['ran on', both(reference.provider, quantized.provider), '', ''],
    ['calibrated on', both(reference.calibratedOn ?? '-', quantized.calibratedOn ?? '-'), '', ''],
  );
  return renderTable(['metric', 'value', 'n', 'note'], rows, [1, 2]);
}
