import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ExitCode } from '../../errors.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { formatBytes } from '../../report/format.js';
import { figureText } from '../../report/results.js';
import {
  predictionError,
  SEARCH_HEAD,
  type SearchReport,
  searchMarkdown,
  searchRows,
  type TriedPlan,
} from '../../report/search.js';
import { sensitivityPlot } from '../../report/sensitivity-plot.js';
import { type SearchOptions, type SearchPlan, type SearchSummary, search } from '../../search/search.js';
import { sensitivityText } from '../../search/sensitivity-file.js';
import type { Trial } from '../../search/trials.js';
import { refuseExisting, writeFolderAtomic } from '../../util/files.js';
import type { Action } from '../command.js';
import { smoothingOf } from '../plan-options.js';
import { searchBounds } from '../searching-options.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { planText, plotted } from './sensitivity.js';

type Flags = Omit<
  SearchOptions,
  'pipeline' | 'prompts' | 'rules' | 'sensitivityBudget' | 'budgetMs' | 'shared' | 'cache' | 'signal' | `on${string}`
> & {
  readonly prompts: string;
  readonly rules?: string;
  readonly samples?: number;
  readonly budget?: number;
  readonly cache?: string;
  readonly report?: string;
};

export const run: Action = async (context, { positional, flags, given }) => {
  const [pipeline] = positional as [string];
  const { prompts: file, rules, samples, budget, giveBack, cache, report, ...options } = flags as unknown as Flags;
  const prompts = await readPrompts(file);
  if (report !== undefined) await refuseExisting(report);
  const kept = cache ?? `${options.output}.cache`;
  let progress = startProgress(context, 'loading the pipeline');
  const say = (text: string): void => {
    progress.stop();
    context.say(text);
    progress = startProgress(context, 'measuring');
  };
  const summary = await search({
    ...options,
    smooth: smoothingOf(context, options, given),
    pipeline,
    prompts,
    rules: rules === undefined ? DEFAULT_RULES : await readRules(rules),
    ...searchBounds({ samples, budget, giveBack }),
    cache: kept,
    signal: context.signal,
    onFitted: (done, total) => progress.update(`choosing range ${done} of ${total}`, done / total),
    onPlan: (plan) => say(searchText(plan)),
    onSensitivityPlan: (plan) => say(`sensitivity: ${planText(plan)}`),
    onProgress: (stage, done, total) => progress.update(`${stage}: ${done}/${total}`),
    onTrial: (trial) => say(trialText(trial)),
  })
    .catch((error) => {
      if (context.signal.aborted) context.say(`${kept} keeps what was measured: the same command goes on from there`);
      throw error;
    })
    .finally(() => progress.stop());
  const table = reportOf(summary);
  if (report !== undefined) await writeReport(report, pipeline, summary, table);
  const { chosen, trials, complete } = summary;
  if (context.json) {
    const output = chosen && options.output;
    context.print(JSON.stringify({ output, chosen, trials, complete }, figureText, 2));
    return chosen ? undefined : ExitCode.gateFailed;
  }
  context.print(renderTable(SEARCH_HEAD, searchRows(table), [1, 2, 3, 4, 5, 6]));
  context.print('*: no plan that was tried is both smaller and better');
  const off = predictionError(table.plans);
  if (off !== undefined) context.print(`predicted SQNR was off by ${off.toFixed(2)} dB at most`);
  if (!complete) context.print('the search ended for want of evaluations or time: a smaller plan may pass');
  if (report !== undefined) context.print(`report: ${path.join(report, 'report.md')}`);
  if (!chosen) {
    const worst = trials.at(-1)?.verdict.checks.filter(({ passed }) => !passed) ?? [];
    for (const { message } of worst) context.print(`FAILED ${message}`);
    const most = giveBack === undefined ? 'everything' : `${giveBack} % of the saved bytes`;
    context.print(`gate failed: ${complete ? `not even with ${most} given back` : 'no plan that was tried passes'}`);
    return ExitCode.gateFailed;
  }
  context.print(
    `${options.output}: ${chosen.givenBack.length} of ${table.linears} linears given back, ${formatBytes(chosen.bytes)} of weights`,
  );
  context.say(`next: wanq quantize ${pipeline} --calibration FILE --plan ${options.output} -o DIR`);
  return undefined;
};

function searchText({ linears, evaluations, forwards, videos }: SearchPlan): string {
  return `${linears} linears; ${evaluations} evaluations at most, each of ${forwards} forwards and ${videos} videos, the first with those of the reference too`;
}

function trialText({ givenBack, bytes, metrics, verdict, cached }: Trial): string {
  const sqnr = metrics.sqnr?.value?.toFixed(2) ?? '-';
  const outcome = verdict.passed ? 'passed' : 'failed';
  return `${givenBack.length} given back, ${formatBytes(bytes)}: ${outcome}, SQNR ${sqnr} dB${cached ? ' (from the cache)' : ''}`;
}

function reportOf({ trials, chosen, sensitivity, complete }: SearchSummary): SearchReport {
  const plans = new Map(trials.map((trial): [Trial, TriedPlan] => [trial, { ...trial, passed: trial.verdict.passed }]));
  return {
    plans: [...plans.values()],
    chosen: chosen && plans.get(chosen),
    linears: Object.keys(sensitivity.linears).length,
    complete,
  };
}

async function writeReport(
  folder: string,
  pipeline: string,
  { trials, chosen, sensitivity, complete }: SearchSummary,
  report: SearchReport,
): Promise<void> {
  const subtitle = `${path.basename(path.resolve(pipeline))}, ${sensitivity.samples.length} samples`;
  const text = { title: 'Damage of quantizing each linear alone', subtitle };
  await writeFolderAtomic(folder, async (target) => {
    await writeFile(path.join(target, 'report.md'), searchMarkdown(report));
    await writeFile(
      path.join(target, 'search.json'),
      `${JSON.stringify({ chosen, trials, complete }, figureText, 2)}\n`,
    );
    await writeFile(path.join(target, 'sensitivity.json'), sensitivityText(sensitivity));
    await writeFile(path.join(target, 'sensitivity.svg'), sensitivityPlot(plotted(sensitivity), text));
  });
}
