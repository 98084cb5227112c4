import { Option } from 'commander';
import { NOISE_FLOORS } from '../../evaluate/options.js';
import type { CommandModule } from '../command.js';
import { measuringOptions } from '../measuring-options.js';
import { samplingOptions } from '../options.js';
import { remedyOptions } from '../remedy-options.js';

export const evalCommand: CommandModule = {
  define: (command) => {
    command
      .name('eval')
      .description('measure a quantized pipeline against its reference, and judge it with --gate')
      .argument('<reference>', 'pipeline folder of the reference model')
      .argument('<quantized>', 'pipeline folder of the quantized model');
    for (const option of samplingOptions({ seed: 1000, promptsRequired: true })) command.addOption(option);
    for (const option of measuringOptions()) command.addOption(option);
    command
      .addOption(new Option('-o, --output <folder>', 'report folder to write').makeOptionMandatory())
      .addOption(
        new Option('--noise-floor <kind>', 'the harmless change that free runs are held against')
          .choices(NOISE_FLOORS)
          .default('fp16-weights'),
      )
      .addOption(new Option('--gate [rules]', 'exit 1 where a rule fails; a rules file, or the default rules'));
    for (const option of remedyOptions()) command.addOption(option);
    return command;
  },
  load: () => import('../actions/eval.js'),
};
