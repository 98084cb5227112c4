import { Option } from 'commander';
import { TIMESTEP_INPUTS } from '../../import/options.js';
import type { CommandModule } from '../command.js';

export const importCommand: CommandModule = {
  define: (command) =>
    command
      .name('import')
      .description("build the ONNX transformer of a diffusers checkpoint over the checkpoint's own weights")
      .argument('<checkpoint>', 'diffusers folder with transformer/ in it, or a transformer folder')
      .addOption(
        new Option(
          '--copy',
          "copy the weights instead of hard-linking the checkpoint's files; Python's onnx package reads copies only",
        ).default(false),
      )
      .addOption(
        new Option(
          '--timestep <shape>',
          'batch: one timestep a video; tokens: one for every token, all the same or not',
        )
          .choices(TIMESTEP_INPUTS)
          .default('batch'),
      )
      .addOption(
        new Option(
          '--components <folder>',
          'ONNX pipeline folder to take text encoder and VAE from; linked, with --copy copied',
        ),
      )
      .addOption(new Option('-o, --output <folder>', 'pipeline folder to write').makeOptionMandatory()),
  load: () => import('../actions/import.js'),
};
