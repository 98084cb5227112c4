import { Option } from 'commander';
import { NOISE_FLOORS } from '../../evaluate/options.js';
import { DEVICE_NAMES } from '../../runtime/providers.js';
import type { CommandModule } from '../command.js';
import { integer, numbersBetween, samplingOptions } from '../options.js';

export const evalCommand: CommandModule = {
  define: (command) => {
    command
      .name('eval')
      .description('measure a quantized pipeline against its reference, and judge it with --gate')
      .argument('<reference>', 'pipeline folder of the reference model')
      .argument('<quantized>', 'pipeline folder of the quantized model');
    for (const option of samplingOptions({ seed: 1000, promptsRequired: true })) command.addOption(option);
    return command
      .addOption(new Option('-o, --output <folder>', 'report folder to write').makeOptionMandatory())
      .addOption(
        new Option('--seeds-per-prompt <n>', 'videos made of each prompt').argParser(integer(1, 10_000)).default(1),
      )
      .addOption(
        new Option('--sigmas <list>', 'noise levels of the PSNR drop')
          .argParser(numbersBetween(0, 1))
          .default([0.3, 0.5, 0.7, 0.85]),
      )
      .addOption(
        new Option(
          '--clips <file>',
          'clips for the PSNR drop (.safetensors); default: the reference model’s own videos',
        ),
      )
      .addOption(new Option('--features <folder>', 'feature network and reference statistics for FVD'))
      .addOption(
        new Option('--inspected <n>', 'videos that get teacher forcing, a noise floor and a strip of frames')
          .argParser(integer(1, 10_000))
          .default(4),
      )
      .addOption(
        new Option('--noise-floor <kind>', 'the harmless change that free runs are held against')
          .choices(NOISE_FLOORS)
          .default('fp16-weights'),
      )
      .addOption(
        new Option('--device-reference <name>', 'where the reference runs, if elsewhere').choices(DEVICE_NAMES),
      )
      .addOption(new Option('--gate [rules]', 'exit 1 where a rule fails; a rules file, or the default rules'));
  },
  load: () => import('../actions/eval.js'),
};
