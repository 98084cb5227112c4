import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { evaluate } from '../evaluate/evaluate.js';
import type { EvaluateOptions, Pictures } from '../evaluate/options.js';
import { judge, type Verdict } from '../gate/judge.js';
import type { Rule } from '../gate/rules.js';
import { loadModel } from '../onnx/load.js';
import { readPlan } from '../quantize/plan-file.js';
import { tensorHistograms } from '../quantize/tensor-histograms.js';
import type { TensorHistogram } from '../report/histograms.js';
import type { Advice } from '../report/ladder.js';
import { markdownReport } from '../report/markdown.js';
import { type Results, resultsToJson } from '../report/results.js';
import { makeSheets, PAGE_SHEETS_BYTES } from '../report/sheets.js';
import { type Frames, frameStrip } from '../report/strip.js';
import { exists } from '../util/files.js';
import { planPathOf } from './failing.js';

/** How all pipelines are measured that are to be compared. */
export type MeasuredAlike = Omit<
  EvaluateOptions,
  'reference' | 'quantized' | 'weights' | 'sensitivities' | 'shared' | 'journal' | 'signal' | 'onProgress' | 'onVideo'
>;

export interface Judged {
  readonly results: Results;
  readonly verdict: Verdict;
}

export interface ReportOptions {
  /** @returns where the quantized pipeline will lie, for the report; absent: where it lies */
  readonly placed?: ((verdict: Verdict) => string) | undefined;
  /** Has more checks than rules decide. */
  readonly judged?: ((verdict: Verdict, results: Results) => Verdict) | undefined;
  /** Asked where the gate fails. */
  readonly advise?: ((judged: Judged) => Promise<Advice | undefined>) | undefined;
  /** Calibration file that the model was quantized with, for histograms. */
  readonly calibration?: string | undefined;
  /** The command that makes the report again. */
  readonly command?: readonly string[] | undefined;
}

/**
 * Evaluates and judges a quantized pipeline, and fills a folder with results.json, report.md, report.html and the pictures that they show.
 *
 * @param folder empty, or what an evaluation that was interrupted left of it
 * @throws WanqError as {@link evaluate}
 */
export async function evaluateInto(
  folder: string,
  options: Omit<EvaluateOptions, 'onVideo'>,
  rules: readonly Rule[],
  { placed, judged, advise, calibration, command }: ReportOptions = {},
): Promise<Judged & { readonly advice: Advice | undefined }> {
  await mkdir(path.join(folder, 'media'), { recursive: true });
  // What the page needs beside the results is made while the first model loads; where it cannot be, nothing else is begun in vain.
  const page = import('../report/html/page.js');
  const failed = new AbortController();
  const histograms = calibration === undefined ? undefined : histogramsOf(calibration, options);
  histograms?.catch((error) => failed.abort(error));
  const shown = Math.min(options.inspected, options.prompts.length * options.seedsPerPrompt);
  const measured = await evaluate({
    ...options,
    signal: options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal,
    onVideo: (index, a, b) => writePictures(folder, index, a, b, PAGE_SHEETS_BYTES / shown),
  });
  const ruled = judge(measured.metrics, rules, { prompts: measured.settings.prompts });
  const verdict = judged?.(ruled, measured) ?? ruled;
  const { quantized } = measured;
  const results = { ...measured, quantized: { ...quantized, path: placed?.(verdict) ?? quantized.path } };
  const advice = verdict.passed ? undefined : await advise?.({ results, verdict });
  await writeFile(path.join(folder, 'results.json'), resultsToJson(results));
  await writeFile(path.join(folder, 'report.md'), markdownReport(results, verdict, advice));
  const media = (name: string): Promise<Uint8Array> => readFile(path.join(folder, name));
  const input = { results, verdict, advice, media, histograms: await histograms, command };
  await writeFile(path.join(folder, 'report.html'), await (await page).htmlReport(input));
  return { results, verdict, advice };
}

async function writePictures(folder: string, index: number, a: Frames, b: Frames, budget: number): Promise<Pictures> {
  const stem = `media/${String(index).padStart(3, '0')}`;
  const write = async (what: string, bytes: Uint8Array): Promise<string> => {
    await writeFile(path.join(folder, `${stem}-${what}`), bytes);
    return `${stem}-${what}`;
  };
  const { layout, reference, quantized, difference } = await makeSheets(a, b, budget);
  return {
    strip: await write('strip.png', await frameStrip(a, b)),
    sheets: {
      ...layout,
      reference: await write('reference.webp', reference),
      quantized: await write('quantized.webp', quantized),
      difference: await write('difference.webp', difference),
    },
  };
}

async function histogramsOf(
  calibration: string,
  { reference, quantized }: Pick<EvaluateOptions, 'reference' | 'quantized'>,
): Promise<TensorHistogram[] | undefined> {
  const planPath = planPathOf(quantized);
  if (!(await exists(planPath))) return undefined;
  const model = await loadModel(path.join(reference, 'transformer', 'model.onnx'));
  try {
    return await tensorHistograms({ calibration, plan: await readPlan(planPath), model });
  } finally {
    await model.close();
  }
}
