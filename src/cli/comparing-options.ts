import { Option } from 'commander';
import { NOISE_FLOORS } from '../evaluate/options.js';
import { measuringOptions } from './measuring-options.js';
import { samplingOptions } from './options.js';

/** What `wanq compare --reference` takes of `wanq eval`: how videos are made, and what is measured of them. */
export function comparedOptions(): Option[] {
  return [
    ...samplingOptions({ seed: 1000, promptsRequired: false }),
    ...measuringOptions(),
    new Option('--noise-floor <kind>', 'the harmless change that free runs are held against')
      .choices(NOISE_FLOORS)
      .default('fp16-weights'),
    new Option('--no-linears', 'do not hold each linear by itself against the reference'),
  ];
}
