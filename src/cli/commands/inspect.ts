import type { CommandModule } from '../command.js';

export const inspectCommand: CommandModule = {
  define: (command) =>
    command
      .name('inspect')
      .description('show what a pipeline is made of and how small each scheme makes it; reads no weights')
      .argument('<pipeline>', 'pipeline folder')
      .option('--roles', 'list every linear with the evidence for its role')
      .option(
        '--text [component]',
        'print the graph of a component (default: transformer) as text to compare, nothing else',
      ),
  load: () => import('../actions/inspect.js'),
};
