import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ExitCode } from '../../errors.js';
import { evaluate } from '../../evaluate/evaluate.js';
import type { EvaluateOptions } from '../../evaluate/options.js';
import { judge } from '../../gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { formatBytes, formatMetric, titledMetrics } from '../../report/format.js';
import { markdownReport } from '../../report/markdown.js';
import { type Results, resultsToJson } from '../../report/results.js';
import { frameStrip } from '../../report/strip.js';
import { writeFolderAtomic } from '../../util/files.js';
import type { Action } from '../command.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { verdictText } from '../ui/verdict.js';

type Flags = Omit<EvaluateOptions, 'reference' | 'quantized' | 'prompts' | 'signal' | 'onProgress' | 'onVideo'> & {
  readonly prompts: string;
  readonly output: string;
  readonly gate?: string | true;
};

export const run: Action = async (context, { positional, flags }) => {
  const [reference, quantized] = positional as [string, string];
  const { prompts: file, output, gate, ...options } = flags as unknown as Flags;
  const prompts = await readPrompts(file);
  const rules = typeof gate === 'string' ? await readRules(gate) : DEFAULT_RULES;
  const progress = startProgress(context, 'loading the pipelines');
  const { results, verdict } = await writeFolderAtomic(output, async (folder) => {
    await mkdir(path.join(folder, 'strips'));
    const measured = await evaluate({
      ...options,
      reference,
      quantized,
      prompts,
      signal: context.signal,
      onProgress: ({ stage, done, total }) => progress.update(`${stage}: ${done}/${total}`),
      onVideo: async (index, a, b) => {
        const name = `strips/${String(index).padStart(3, '0')}.png`;
        await writeFile(path.join(folder, name), await frameStrip(a, b));
        return name;
      },
    });
    const judged = judge(measured.metrics, rules);
    await writeFile(path.join(folder, 'results.json'), resultsToJson(measured));
    await writeFile(path.join(folder, 'report.md'), markdownReport(measured, judged));
    return { results: measured, verdict: judged };
  }).finally(() => progress.stop());
  if (context.json) {
    context.print(JSON.stringify({ ...JSON.parse(resultsToJson(results)), verdict }, null, 2));
  } else {
    context.print(resultsTable(results));
    context.print(verdictText(verdict));
    context.print(`report: ${path.join(output, 'report.md')}`);
  }
  return gate !== undefined && !verdict.passed ? ExitCode.gateFailed : undefined;
};

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
