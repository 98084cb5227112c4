import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { evaluate } from '../evaluate/evaluate.js';
import type { EvaluateOptions } from '../evaluate/options.js';
import { judge, type Verdict } from '../gate/judge.js';
import type { Rule } from '../gate/rules.js';
import type { Advice } from '../report/ladder.js';
import { markdownReport } from '../report/markdown.js';
import { type Results, resultsToJson } from '../report/results.js';
import { frameStrip } from '../report/strip.js';

/** How all pipelines are measured that are to be compared. */
export type MeasuredAlike = Omit<
  EvaluateOptions,
  'reference' | 'quantized' | 'shared' | 'signal' | 'onProgress' | 'onVideo'
>;

export interface Judged {
  readonly results: Results;
  readonly verdict: Verdict;
}

export interface ReportOptions {
  /** @returns where the quantized pipeline will lie, for the report; absent: where it lies */
  readonly placed?: ((verdict: Verdict) => string) | undefined;
  /** Asked where the gate fails. */
  readonly advise?: ((judged: Judged) => Promise<Advice | undefined>) | undefined;
}

/**
 * Evaluates and judges a quantized pipeline, and fills a folder with results.json, report.md and the strips of frames.
 *
 * @param folder empty
 * @throws WanqError as {@link evaluate}
 */
export async function evaluateInto(
  folder: string,
  options: Omit<EvaluateOptions, 'onVideo'>,
  rules: readonly Rule[],
  { placed, advise }: ReportOptions = {},
): Promise<Judged & { readonly advice: Advice | undefined }> {
  await mkdir(path.join(folder, 'strips'));
  const measured = await evaluate({
    ...options,
    onVideo: async (index, a, b) => {
      const name = `strips/${String(index).padStart(3, '0')}.png`;
      await writeFile(path.join(folder, name), await frameStrip(a, b));
      return name;
    },
  });
  const verdict = judge(measured.metrics, rules);
  const { quantized } = measured;
  const results = { ...measured, quantized: { ...quantized, path: placed?.(verdict) ?? quantized.path } };
  const advice = verdict.passed ? undefined : await advise?.({ results, verdict });
  await writeFile(path.join(folder, 'results.json'), resultsToJson(results));
  await writeFile(path.join(folder, 'report.md'), markdownReport(results, verdict, advice));
  return { results, verdict, advice };
}
