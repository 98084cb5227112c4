import { Option } from 'commander';
import { NOISE_FLOORS } from '../evaluate/options.js';
import { baselineOption } from './gate-options.js';
import { measuringOptions } from './measuring-options.js';
import { samplingOptions } from './options.js';

/** Options of `eval` that its results and verdict depend on. */
export function evalOptions(): Option[] {
  return [
    ...samplingOptions({ seed: 1000, promptsRequired: true }),
    ...measuringOptions(),
    new Option('--noise-floor <kind>', 'the harmless change that free runs are held against')
      .choices(NOISE_FLOORS)
      .default('fp16-weights'),
    new Option('--no-linears', 'do not hold each linear by itself against the reference'),
    new Option('--weights <file>', 'weights that the quantized model was fine-tuned to (quantize --weights)'),
    new Option('--sensitivity <file>', 'sensitivity of the linears, for the report'),
    new Option('--gate [rules]', 'exit 1 where a rule fails; a rules file, a preset, or the default rules'),
    baselineOption(),
  ];
}
