import type { CommandModule } from '../command.js';

export const inspectCommand: CommandModule = {
  define: (command) =>
    command
      .name('inspect')
      .description('show what a pipeline is made of and how small each scheme makes it; reads no weights')
      .argument('<pipeline>', 'pipeline folder'),
  load: () => import('../actions/inspect.js'),
};
