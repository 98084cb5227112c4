import { type CalibrateOptions, calibrate } from '../../calibrate/calibrate.js';
import { checkpointPath } from '../../calibrate/checkpoint.js';
import { nonFiniteText } from '../../calibrate/statistics.js';
import { printable } from '../../errors.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { formatBytes } from '../../report/format.js';
import { exists } from '../../util/files.js';
import type { Action } from '../command.js';
import { startProgress } from '../ui/progress.js';

type Flags = Omit<CalibrateOptions, 'pipeline' | 'prompts' | 'signal' | 'onProgress'> & { readonly prompts?: string };

export const run: Action = async (context, { positional, flags }) => {
  const [pipeline] = positional as [string];
  const { prompts: file, ...options } = flags as unknown as Flags;
  const prompts = file === undefined ? undefined : await readPrompts(file);
  const progress = startProgress(context, 'loading the pipeline');
  const summary = await calibrate({
    ...options,
    pipeline,
    prompts,
    signal: context.signal,
    onProgress: ({ prompt, prompts: count, step, steps, forwards, totalForwards }) =>
      progress.update(`calibrating: prompt ${prompt}/${count}, step ${step}/${steps}`, forwards / totalForwards),
  })
    .catch(async (error) => {
      const kept = await exists(checkpointPath(options.output));
      if (context.signal.aborted && kept) context.say('the checkpoint is kept: the same command goes on from there');
      throw error;
    })
    .finally(() => progress.stop());
  for (const { pass, did } of summary.passes) context.detail(`${pass}: ${did}`);
  if (context.json) {
    context.print(JSON.stringify(summary, null, 2));
    return undefined;
  }
  if (summary.inputs === 'synthetic') {
    context.say('warning: calibrated on random embeddings: the ranges are not those of real prompts');
  }
  if (summary.resumed > 0) context.say(`took ${summary.resumed} prompts over from the checkpoint`);
  if (summary.truncatedTimesteps) {
    context.say(
      'warning: the scheduler makes fractional timesteps, and this graph takes whole ones: fractions are cut off',
    );
  }
  for (const { value, ...seen } of summary.nonFinite) {
    context.say(
      `warning: NaN or infinity was seen in ${printable(value)} (${nonFiniteText(seen)}); linears that read it will not be quantized`,
    );
  }
  const pieces = summary.segments > 1 ? ` in ${summary.segments} segments` : '';
  const broken = summary.nonFinite.length > 0 ? `; ${summary.nonFinite.length} hold NaN or infinity` : '';
  context.print(
    `${summary.output}: ${summary.activations} activations over ${summary.forwards} forwards on ${summary.provider}${pieces}, peak memory ${formatBytes(summary.peakBytes)}${broken}`,
  );
  context.say(
    options.shard === undefined
      ? `next: wanq quantize ${pipeline} --calibration ${summary.output} --scheme ffn --target ort-cpu -o DIR`
      : 'next: wanq merge SHARD... -o FILE, when all shards are there',
  );
  return undefined;
};
