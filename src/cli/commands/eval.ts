import { Option } from 'commander';
import type { CommandModule } from '../command.js';
import { evalOptions } from '../eval-options.js';
import { gateOutputOptions } from '../gate-options.js';
import { remedyOptions } from '../remedy-options.js';

export const evalCommand: CommandModule = {
  define: (command) => {
    command
      .name('eval')
      .description('measure a quantized pipeline against its reference, and judge it with --gate')
      .argument('<reference>', 'pipeline folder of the reference model')
      .argument('<quantized>', 'pipeline folder of the quantized model')
      .addOption(new Option('-o, --output <folder>', 'report folder to write').makeOptionMandatory());
    for (const option of [...evalOptions(), ...gateOutputOptions(), ...remedyOptions()]) command.addOption(option);
    return command;
  },
  load: () => import('../actions/eval.js'),
};
