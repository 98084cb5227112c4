import { Option } from 'commander';
import type { CommandModule } from '../command.js';
import { duration, integer, samplingOptions } from '../options.js';
import { planOptions } from '../plan-options.js';

export const sensitivityCommand: CommandModule = {
  define: (command) => {
    command
      .name('sensitivity')
      .description('measure what quantizing each linear alone does to the output of the transformer')
      .argument('<pipeline>', 'pipeline folder of the FP32 model');
    for (const option of samplingOptions({ seed: 1000, promptsRequired: true })) command.addOption(option);
    for (const option of planOptions({ scheme: 'blocks' })) command.addOption(option);
    return command
      .addOption(
        new Option('--budget <time>', 'chooses how many places of the sampling chains are measured: 90s, 10min, 2h')
          .argParser(duration)
          .default(600_000, '10min'),
      )
      .addOption(
        new Option('--samples <n>', 'places to measure, whatever time they take')
          .argParser(integer(1))
          .conflicts('budget'),
      )
      .addOption(new Option('--top <n>', 'rows of the printed table').argParser(integer(1)).default(20))
      .addOption(new Option('--plot <file>', 'picture to write (.svg)'))
      .addOption(
        new Option(
          '-o, --output <file>',
          'JSON file to write; one of the same command is gone on with, and what it has is not measured again',
        ).makeOptionMandatory(),
      );
  },
  load: () => import('../actions/sensitivity.js'),
};
