import { Option } from 'commander';
import type { CommandModule } from '../command.js';
import { comparedOptions } from '../comparing-options.js';

export const compareCommand: CommandModule = {
  define: (command) => {
    command
      .name('compare')
      .description('several quantized models against one reference, in one table and one page')
      .argument('<models...>', 'reports of `wanq eval`; with --reference, quantized pipeline folders')
      .addOption(new Option('--reference <pipeline>', 'evaluate the quantized pipelines against this one first'))
      .addOption(new Option('-o, --output <folder>', 'folder for the page; with --reference, for the reports too'))
      .addOption(
        new Option(
          '--rules <preset or file>',
          'rules of the gate: a file, or wanq:recommended (default), wanq:strict, wanq:no-features',
        ),
      );
    for (const option of comparedOptions()) command.addOption(option);
    return command;
  },
  load: () => import('../actions/compare.js'),
};
