import { Option } from 'commander';
import { ACTIVATIONS, FLOAT_STORAGES, RANGE_METHODS, type Smoothing } from '../quantize/options.js';
import { SCHEMES, type Scheme } from '../quantize/scheme.js';
import { TARGETS } from '../quantize/target.js';
import { number } from './options.js';

/** Options of all commands that make a plan: which linears become INT8, and how. */
export function planOptions(defaults: { scheme: Scheme }): Option[] {
  return [
    new Option('--calibration <file>', 'calibration file of this pipeline'),
    new Option('--scheme <name>', 'ffn: feed-forward linears; blocks: every linear of the blocks')
      .choices(SCHEMES)
      .default(defaults.scheme),
    new Option(
      '--method <name>',
      'how activation ranges are chosen; auto: for each tensor what errs least at the output of its linears',
    )
      .choices(RANGE_METHODS)
      .default('auto'),
    new Option(
      '--smooth <alpha>',
      'SmoothQuant: move large channels from activations into weights; none, a strength in [0, 1], or auto for each tensor',
    )
      .argParser(smoothing)
      .default('auto'),
    new Option('--percentile <p>', 'percent of samples that --method percentile keeps')
      .argParser(number(50, 100))
      .default(99.999),
    new Option('--target <name>', 'runtime the graph is written for').choices(TARGETS).default('ort-cpu'),
    new Option(
      '--activations <how>',
      'static: one calibrated scale a tensor; dynamic: one a token, computed in the graph (default: what suits the target)',
    ).choices(ACTIVATIONS),
    new Option(
      '--keep <glob...>',
      'roles or node names that stay as they are; quote it: "*.ffn.down" "blocks.{0,-1}.*"',
    ).default([]),
    new Option(
      '--float <type>',
      'fp32: linears that are not quantized stay as they are; fp16: stored so, and computed in FP16 where the target can',
    )
      .choices(FLOAT_STORAGES)
      .default('fp32'),
    new Option('--plan <file>', 'plan file that decides instead of the options above').conflicts([
      'scheme',
      'method',
      'smooth',
      'target',
      'activations',
      'keep',
      'float',
    ]),
  ];
}

function smoothing(text: string): Smoothing {
  return text === 'none' || text === 'auto' ? text : number(0, 1)(text);
}
