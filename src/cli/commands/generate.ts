import { Option } from 'commander';
import { DEFAULT_FPS, MAX_FPS } from '../../generate/options.js';
import { MAX_STEPS } from '../../limits.js';
import type { CommandModule } from '../command.js';
import { chainOptions, integer } from '../options.js';

export const generateCommand: CommandModule = {
  define: (command) => {
    command
      .name('generate')
      .description('make a video of a prompt, with any pipeline: FP32, FP16 or quantized')
      .argument('<pipeline>', 'pipeline folder')
      .addOption(new Option('--prompt <text>', 'what the video shows').makeOptionMandatory());
    for (const option of chainOptions(0)) command.addOption(option);
    return command
      .addOption(
        new Option(
          '-o, --output <file>',
          'video to write: .mp4, .webp or .gif; .png for a sheet of frames',
        ).makeOptionMandatory(),
      )
      .addOption(new Option('--fps <n>', 'frames a second').argParser(integer(1, MAX_FPS)).default(DEFAULT_FPS))
      .addOption(
        new Option(
          '--preview <file>',
          'PNG of what the video is about to be, written anew every few steps; the VAE then stays in memory beside the transformer',
        ),
      )
      .addOption(
        new Option('--preview-every <n>', 'steps from one preview to the next; each costs a run of the VAE decoder')
          .argParser(integer(1, MAX_STEPS))
          .default(10),
      )
      .addOption(new Option('--no-metadata', 'leave prompts, seed and settings out of the file'));
  },
  load: () => import('../actions/generate.js'),
};
