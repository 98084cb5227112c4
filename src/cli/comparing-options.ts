import type { Option } from 'commander';
import { evalOptions } from './eval-options.js';

/** Options of `wanq eval` that are of one model, or of what is made of its verdict. */
const OF_ONE_MODEL: readonly string[] = ['weights', 'sensitivity', 'gate', 'baseline'];

/** What `wanq compare --reference` takes of `wanq eval`: how videos are made, and what is measured of them. */
export function comparedOptions(): Option[] {
  return evalOptions()
    .filter((option) => !OF_ONE_MODEL.includes(option.attributeName()))
    .map((option) => option.makeOptionMandatory(false));
}
