import type { CommandModule } from '../command.js';

export const gateCommand: CommandModule = {
  define: (command) =>
    command
      .name('gate')
      .description('judge saved results again, without running a model')
      .argument('<results>', 'results.json of a report')
      .option('--rules <file>', 'rules file (default: PSNR drop <= 3 dB, FVD growth < 15 %)'),
  load: () => import('../actions/gate.js'),
};
