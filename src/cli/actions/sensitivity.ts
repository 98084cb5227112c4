import path from 'node:path';
import { readPrompts } from '../../pipeline/prompts.js';
import { formatBytes, formatDuration } from '../../report/format.js';
import { type PlottedLinear, sensitivityPlot } from '../../report/sensitivity-plot.js';
import { measureSensitivity, type SensitivityOptions, type SensitivityPlan } from '../../search/sensitivity.js';
import type { Sensitivity, SensitivityEntry } from '../../search/sensitivity-file.js';
import { assertWritable, exists, refuseExisting, withOutput, writeAtomic } from '../../util/files.js';
import type { Action } from '../command.js';
import { smoothingOf } from '../plan-options.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';

type Flags = Omit<SensitivityOptions, 'pipeline' | 'prompts' | 'budget' | 'signal' | 'onPlan' | 'onProgress'> & {
  readonly prompts: string;
  readonly budget: number;
  readonly samples?: number;
  readonly top: number;
  readonly plot?: string;
};

export const run: Action = async (context, { positional, flags, given }) => {
  const [pipeline] = positional as [string];
  const { prompts: file, budget, samples, top, plot, ...options } = flags as unknown as Flags;
  const prompts = await readPrompts(file);
  if (plot !== undefined) {
    await refuseExisting(plot);
    await assertWritable(plot);
  }
  let progress = startProgress(context, 'loading the pipeline');
  const sensitivity = await measureSensitivity({
    ...options,
    smooth: smoothingOf(context, options, given),
    pipeline,
    prompts,
    budget: samples === undefined ? { ms: budget } : { samples },
    signal: context.signal,
    onFitted: (done, total) => progress.update(`choosing range ${done} of ${total}`, done / total),
    onPlan: (plan) => {
      progress.stop();
      context.say(planText(plan));
      progress = startProgress(context, 'measuring');
    },
    onProgress: (done, total) => progress.update(`measuring: forward ${done}/${total}`, done / total),
  })
    .catch(async (error) => {
      const kept = await exists(options.output);
      if (context.signal.aborted && kept) context.say('what was measured is kept: the same command goes on from there');
      throw error;
    })
    .finally(() => progress.stop());
  if (plot !== undefined) {
    const subtitle = `${path.basename(path.resolve(pipeline))}, ${sensitivity.samples.length} samples`;
    const text = { title: 'Damage of quantizing each linear alone', subtitle };
    await withOutput(plot, () => writeAtomic(plot, sensitivityPlot(plotted(sensitivity), text)));
  }
  if (context.json) {
    context.print(JSON.stringify(sensitivity, null, 2));
    return undefined;
  }
  const { linears, groups } = sensitivity;
  const left = Object.keys(linears).length - top;
  context.print(rankedTable(linears, top));
  if (left > 0) context.print(`and ${left} more in ${options.output}`);
  const sum = Object.values(linears).reduce((total, { damage }) => total + damage, 0);
  if (groups.all) context.print(`all together: ${figure(groups.all.damage)}; the sum of each alone: ${figure(sum)}`);
  if (plot !== undefined) context.print(`picture: ${plot}`);
  context.say(`next: wanq search ${pipeline} --sensitivity ${options.output} --prompts FILE -o plan.json`);
  return undefined;
};

/** One line on what is about to be done. */
export function planText({ samples, finished, units, chainForwards, forwards, ms }: SensitivityPlan): string {
  const done = finished > 0 ? ` (${finished} of them finished)` : '';
  return `${samples} samples${done}, ${units} linears and groups at each, ${chainForwards} forwards of the chains: ${forwards} forwards, about ${formatDuration(ms)}`;
}

export function plotted({ linears }: Sensitivity): PlottedLinear[] {
  return Object.entries(linears).map(([name, { damage }]) => ({ name, damage }));
}

/** Most damage for each byte that is saved first: the order in which it pays to give back. */
function rankedTable(linears: Sensitivity['linears'], top: number): string {
  const rate = ({ damage, bytesSaved = 0 }: SensitivityEntry): number => damage / Math.max(bytesSaved, 1);
  const rows = Object.entries(linears)
    .sort(([, a], [, b]) => rate(b) - rate(a))
    .slice(0, top)
    .map(([name, entry]) => [
      name,
      entry.damage.toExponential(2),
      decibels(entry),
      formatBytes(entry.bytesSaved ?? 0),
      (1e6 * rate(entry)).toExponential(2),
    ]);
  return renderTable(['linear', 'damage', 'SQNR alone', 'bytes saved', 'damage per MB'], rows, [1, 2, 3, 4]);
}

function figure(damage: number): string {
  return `${damage.toExponential(2)} (${decibels({ damage })})`;
}

function decibels({ damage }: Pick<SensitivityEntry, 'damage'>): string {
  return damage === 0 ? '-' : `${(-10 * Math.log10(damage)).toFixed(1)} dB`;
}
