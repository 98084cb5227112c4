import { Option } from 'commander';
import { THRESHOLD_METHODS } from '../../numerics/thresholds/index.js';
import { FLOAT_STORAGES, VERIFICATIONS } from '../../quantize/options.js';
import { SCHEMES } from '../../quantize/scheme.js';
import { TARGETS } from '../../quantize/target.js';
import type { CommandModule } from '../command.js';
import { number } from '../options.js';

export const quantizeCommand: CommandModule = {
  define: (command) =>
    command
      .name('quantize')
      .description('rewrite the transformer to INT8 and write a complete pipeline folder')
      .argument('<pipeline>', 'pipeline folder of the FP32 model')
      .addOption(new Option('--calibration <file>', 'calibration file of this pipeline'))
      .addOption(
        new Option('--scheme <name>', 'ffn: feed-forward linears; blocks: every linear of the blocks')
          .choices(SCHEMES)
          .default('ffn'),
      )
      .addOption(
        new Option('--method <name>', 'how activation ranges are chosen').choices(THRESHOLD_METHODS).default('kl'),
      )
      .addOption(
        new Option('--percentile <p>', 'percent of samples that --method percentile keeps')
          .argParser(number(50, 100))
          .default(99.999),
      )
      .addOption(new Option('--target <name>', 'runtime the graph is written for').choices(TARGETS).default('ort-cpu'))
      .addOption(
        new Option(
          '--keep <glob...>',
          'roles or node names that stay as they are; quote it: "*.ffn.down" "blocks.{0,-1}.*"',
        ).default([]),
      )
      .addOption(
        new Option(
          '--float <type>',
          'fp32: linears that are not quantized stay as they are; fp16: stored so, and computed in FP16 where the target can',
        )
          .choices(FLOAT_STORAGES)
          .default('fp32'),
      )
      .addOption(
        new Option(
          '--verify <how>',
          'load: check the written model and load it; run: a forward beside the original too; auto: run up to 256 MB of weights',
        )
          .choices(VERIFICATIONS)
          .default('auto'),
      )
      .addOption(new Option('--link', 'link the other components instead of copying them').default(false))
      .addOption(new Option('--dry-run', 'print the plan, write nothing'))
      .addOption(new Option('-o, --output <folder>', 'pipeline folder to write')),
  load: () => import('../actions/quantize.js'),
};
