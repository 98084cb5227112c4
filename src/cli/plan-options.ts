import { Option } from 'commander';
import {
  ACTIVATIONS,
  type Activations,
  DEFAULT_PERCENTILE,
  FLOAT_STORAGES,
  RANGE_METHODS,
  type Smoothing,
} from '../quantize/options.js';
import { SCHEMES, type Scheme } from '../quantize/scheme.js';
import { int8Precision, TARGETS, type Target } from '../quantize/target.js';
import type { Context } from './context.js';
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
      .default(DEFAULT_PERCENTILE),
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

interface SmoothingFlags {
  readonly calibration?: string | undefined;
  readonly plan?: string | undefined;
  readonly target: Target;
  readonly activations?: Activations | undefined;
  readonly smooth?: Smoothing | undefined;
}

/**
 * The smoothing of what needs no calibration otherwise: where none is given, the default gives way, and that is said.
 * @throws WanqError USAGE where the target does not take the activations
 */
export function smoothingOf(
  context: Context,
  { calibration, plan, target, activations, smooth }: SmoothingFlags,
  given: ReadonlySet<string>,
): Smoothing | undefined {
  const chosen = calibration !== undefined || plan !== undefined || given.has('smooth');
  if (chosen || int8Precision(target, activations) !== 'int8-dynamic') return smooth;
  context.say('nothing is smoothed: --smooth needs --calibration');
  return 'none';
}

function smoothing(text: string): Smoothing {
  return text === 'none' || text === 'auto' ? text : number(0, 1)(text);
}
