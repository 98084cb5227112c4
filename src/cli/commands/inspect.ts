import type { CommandModule } from '../command.js';
import { sizeOptions } from '../options.js';

export const inspectCommand: CommandModule = {
  define: (command) => {
    command
      .name('inspect')
      .description(
        'show what a pipeline is made of, how small each scheme makes it and what memory it takes; reads no weights',
      )
      .argument('<pipeline>', 'pipeline folder')
      .option('--roles', 'list every linear with the evidence for its role')
      .option(
        '--text [component]',
        'print the graph of a component (default: transformer) as text to compare, nothing else',
      );
    for (const option of sizeOptions()) command.addOption(option);
    return command;
  },
  load: () => import('../actions/inspect.js'),
};
