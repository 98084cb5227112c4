import { Command } from 'commander';
import { expect, it } from 'vitest';
import { argumentsOf } from '../../../src/cli/arguments.js';
import { measuringOptions } from '../../../src/cli/measuring-options.js';
import { samplingOptions } from '../../../src/cli/options.js';

const options = [...samplingOptions({ seed: 1000, promptsRequired: true }), ...measuringOptions()];

function parsed(args: readonly string[]): Record<string, unknown> {
  const command = new Command();
  for (const option of options) command.addOption(option);
  return command.parse(args, { from: 'user' }).opts();
}

it('gives options as they were given, and leaves out defaults', () => {
  const given = [
    '--prompts',
    'p.txt',
    '--steps',
    '4',
    '--width',
    '64',
    '--sigmas',
    '0.1,0.9',
    '--negative-prompt',
    'a b',
  ];
  const args = argumentsOf(options, parsed([...given, '--guidance', '5']));
  expect(parsed(args)).toEqual(parsed(given));
  expect(args).toHaveLength(given.length);
  expect(argumentsOf(options, parsed(['--prompts', 'p.txt']))).toEqual(['--prompts', 'p.txt']);
});
