import { InvalidArgumentError, Option } from 'commander';
import { type CalibrateOptions, calibrate, checkpointPath } from '../../calibrate/calibrate.js';
import { printable } from '../../errors.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { formatBytes } from '../../report/format.js';
import { exists } from '../../util/files.js';
import type { CommandModule } from '../command.js';
import { integer, samplingOptions } from '../options.js';
import { startProgress } from '../ui/progress.js';

type Flags = Omit<CalibrateOptions, 'pipeline' | 'prompts' | 'signal' | 'onProgress'> & { readonly prompts: string };

export const calibrateCommand: CommandModule = {
  define: (command) => {
    command
      .name('calibrate')
      .description('run the pipeline over prompts and gather the statistics that quantization needs')
      .argument('<pipeline>', 'pipeline folder of the FP32 model');
    for (const option of samplingOptions({ seed: 0 })) command.addOption(option);
    return command
      .addOption(new Option('-o, --output <file>', 'calibration file to write (.safetensors)').makeOptionMandatory())
      .addOption(
        new Option('--buckets <n>', 'timestep buckets that statistics are kept for')
          .argParser(integer(1, 1000))
          .default(5),
      )
      .addOption(
        new Option('--tokens <n>', 'tokens of a forward that enter the histograms: a number, all, or auto')
          .argParser(tokens)
          .default('auto'),
      );
  },
  async run(context, { positional, flags }) {
    const [pipeline] = positional as [string];
    const { prompts: file, ...options } = flags as unknown as Flags;
    const prompts = await readPrompts(file);
    const progress = startProgress(context, 'loading the pipeline');
    const summary = await calibrate({
      ...options,
      pipeline,
      prompts,
      signal: context.signal,
      onProgress: ({ prompt, prompts: count, step, steps, forwards, totalForwards, peakBytes }) =>
        progress.update(
          `calibrating: prompt ${prompt}/${count}, step ${step}/${steps}, ${formatBytes(peakBytes)}`,
          forwards / totalForwards,
        ),
    })
      .catch(async (error) => {
        const kept = await exists(checkpointPath(options.output));
        if (context.signal.aborted && kept) context.say('the checkpoint is kept: the same command goes on from there');
        throw error;
      })
      .finally(() => progress.stop());
    if (context.json) {
      context.print(JSON.stringify(summary, null, 2));
      return undefined;
    }
    if (summary.resumed > 0) context.say(`took ${summary.resumed} prompts over from the checkpoint`);
    if (summary.truncatedTimesteps) {
      context.say(
        'warning: the scheduler makes fractional timesteps, and this graph takes whole ones: fractions are cut off',
      );
    }
    for (const value of summary.nonFinite) {
      context.say(
        `warning: NaN or infinity was seen in ${printable(value)}; linears that read it will not be quantized`,
      );
    }
    context.print(
      `${summary.output}: ${summary.activations} activations over ${summary.forwards} forwards on ${summary.provider}, peak memory ${formatBytes(summary.peakBytes)}`,
    );
    context.say(`next: wanq quantize ${pipeline} --calibration ${summary.output} --scheme ffn --target ort-cpu -o DIR`);
    return undefined;
  },
};

function tokens(text: string): number | 'all' | 'auto' {
  if (text === 'all' || text === 'auto') return text;
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= 1_000_000) return count;
  throw new InvalidArgumentError('Give a number from 1 to 1000000, all, or auto.');
}
