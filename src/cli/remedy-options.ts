import { Option } from 'commander';
import { searchingOptions } from './searching-options.js';

/** Options of `eval` that say what to do where the gate fails. */
export function remedyOptions(): Option[] {
  return [
    new Option(
      '--remedy <folder>',
      'where the gate fails, try what may mend it, the cheapest first, and write what passes here',
    ).implies({ gate: true }),
    new Option('--calibration <file>', 'calibration file of the reference, for --remedy'),
    new Option('--checkpoint <folder>', 'diffusers checkpoint of the reference, for the fine-tuning of --remedy'),
    new Option('--calibration-prompts <file>', 'prompts of the calibration, for the fine-tuning of --remedy'),
    ...searchingOptions({ giveBack: 25 }),
  ];
}
