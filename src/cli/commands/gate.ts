import { Option } from 'commander';
import type { CommandModule } from '../command.js';
import { baselineOption, gateOutputOptions } from '../gate-options.js';

export const gateCommand: CommandModule = {
  define: (command) => {
    command
      .name('gate')
      .description('judge saved results again, without running a model')
      .argument('<results>', 'results.json of a report')
      .option('--rules <preset or file>', 'rules file, or wanq:recommended (default), wanq:strict, wanq:no-features')
      .addOption(baselineOption())
      .addOption(
        new Option('--update', 'write the baseline from these results, where rules pass and nothing got worse'),
      )
      .addOption(new Option('--force', 'with --update: also where something got worse, or was measured otherwise'));
    for (const option of gateOutputOptions()) command.addOption(option);
    return command;
  },
  load: () => import('../actions/gate.js'),
};
