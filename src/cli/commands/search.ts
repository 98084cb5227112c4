import { Option } from 'commander';
import type { CommandModule } from '../command.js';
import { measuringOptions } from '../measuring-options.js';
import { samplingOptions } from '../options.js';
import { planOptions } from '../plan-options.js';
import { searchingOptions } from '../searching-options.js';

export const searchCommand: CommandModule = {
  define: (command) => {
    command
      .name('search')
      .description('find the smallest plan that passes the gate, by evaluating plans')
      .argument('<pipeline>', 'pipeline folder of the FP32 model');
    for (const option of samplingOptions({ seed: 1000, promptsRequired: true })) command.addOption(option);
    for (const option of planOptions({ scheme: 'blocks' })) command.addOption(option);
    for (const option of measuringOptions()) command.addOption(option);
    for (const option of searchingOptions({ giveBack: undefined })) command.addOption(option);
    return command
      .addOption(new Option('--rules <preset or file>', 'rules of the gate (default: wanq:recommended)'))
      .addOption(
        new Option('--sensitivity <file>', 'what `wanq sensitivity` measured of the same plan; default: measured here'),
      )
      .addOption(
        new Option(
          '--cache <folder>',
          'keeps what was measured: an interrupted search goes on, and one with other rules takes it over (default: OUTPUT.cache)',
        ),
      )
      .addOption(new Option('--report <folder>', 'report folder to write'))
      .addOption(
        new Option('-o, --output <file>', 'plan file to write, for `wanq quantize --plan`').makeOptionMandatory(),
      );
  },
  load: () => import('../actions/search.js'),
};
