import { InvalidArgumentError, Option } from 'commander';
import { MAX_PROMPTS } from '../../limits.js';
import type { CommandModule } from '../command.js';
import { byteCount, integer, samplingOptions, shard } from '../options.js';

export const calibrateCommand: CommandModule = {
  define: (command) => {
    command
      .name('calibrate')
      .description('run the pipeline over prompts and gather the statistics that quantization needs')
      .argument('<pipeline>', 'pipeline folder of the FP32 model');
    for (const option of samplingOptions({ seed: 0, promptsRequired: false })) command.addOption(option);
    return command
      .addOption(
        new Option(
          '--embeddings <file>',
          'prompt_embeds and negative_prompt_embeds in a .safetensors file, in place of --prompts and a text encoder',
        ),
      )
      .addOption(
        new Option(
          '--synthetic-inputs <n>',
          'n chains over random embeddings: good for sizes and speed, not for quality; stamped into all that comes of it',
        ).argParser(integer(1, MAX_PROMPTS)),
      )
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
      )
      .addOption(
        new Option(
          '--held-tokens <n>',
          'tokens of each activation kept whole, by which `quantize` chooses ranges and smoothing: a number, or auto',
        )
          .argParser(heldTokens)
          .default('auto'),
      )
      .addOption(
        new Option('--shard <i/n>', 'run every n-th prompt only; `wanq merge` joins the files of all n').argParser(
          shard,
        ),
      )
      .addOption(
        new Option(
          '--max-memory <size>',
          'memory of all processes together, such as 8GB; the transformer is run in segments where it needs more',
        ).argParser(byteCount),
      );
  },
  load: () => import('../actions/calibrate.js'),
};

function heldTokens(text: string): number | 'auto' {
  return text === 'auto' ? text : integer(0, 1_000_000)(text);
}

function tokens(text: string): number | 'all' | 'auto' {
  if (text === 'all' || text === 'auto') return text;
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= 1_000_000) return count;
  throw new InvalidArgumentError('Give a number from 1 to 1000000, all, or auto.');
}
