import { Option } from 'commander';
import type { CommandModule } from '../command.js';

export const mergeCommand: CommandModule = {
  define: (command) =>
    command
      .name('merge')
      .description('join the shards of a calibration: the same bits as one run gives')
      .argument('<shards...>', 'files that `wanq calibrate --shard i/n` wrote, all n of them')
      .addOption(new Option('-o, --output <file>', 'calibration file to write (.safetensors)').makeOptionMandatory()),
  load: () => import('../actions/merge.js'),
};
