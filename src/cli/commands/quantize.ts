import { Option } from 'commander';
import { TEXT_ENCODER_FORMS, VAE_FORMS, VERIFICATIONS } from '../../quantize/options.js';
import type { CommandModule } from '../command.js';
import { planOptions } from '../plan-options.js';

export const quantizeCommand: CommandModule = {
  define: (command) => {
    command
      .name('quantize')
      .description('rewrite the transformer to INT8 and write a complete pipeline folder')
      .argument('<pipeline>', 'pipeline folder of the FP32 model');
    for (const option of planOptions({ scheme: 'ffn' })) command.addOption(option);
    return command
      .addOption(
        new Option('--weights <file>', "weights trained for the plan by python/qat.py, in place of the model's"),
      )
      .addOption(
        new Option(
          '--text-encoder <form>',
          'w8: gated feed-forward inputs and token table of the text encoder in INT8, products as they are',
        ).choices(TEXT_ENCODER_FORMS),
      )
      .addOption(
        new Option(
          '--vae <form>',
          'fp16: kernels of both halves of the VAE in FP16, convolutions too where the target computes in it',
        ).choices(VAE_FORMS),
      )
      .addOption(
        new Option(
          '--verify <how>',
          'load: check the written model and load it; run: a forward beside the original too; auto: run up to 256 MB of weights',
        )
          .choices(VERIFICATIONS)
          .default('auto'),
      )
      .addOption(new Option('--save-plan <file>', 'write what was decided as a plan file, to edit and give to --plan'))
      .addOption(new Option('--link', 'link the other components instead of copying them').default(false))
      .addOption(new Option('--dry-run', 'print the plan, write nothing'))
      .addOption(new Option('-o, --output <folder>', 'pipeline folder to write'));
  },
  load: () => import('../actions/quantize.js'),
};
