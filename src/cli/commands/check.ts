import { Option } from 'commander';
import { TARGETS } from '../../quantize/target.js';
import type { CommandModule } from '../command.js';

export const checkCommand: CommandModule = {
  define: (command) =>
    command
      .name('check')
      .description(
        'show what a runtime would make of every quantized product, without running it; exit code 1 where one would stay a product of floats',
      )
      .argument('<model>', 'pipeline folder or .onnx file, quantized by wanq or by another tool')
      .addOption(new Option('--target <name>', 'runtime to check for').choices(TARGETS).makeOptionMandatory())
      .addOption(new Option('--all', 'list every product, not only those that stay in floats')),
  load: () => import('../actions/check.js'),
};
