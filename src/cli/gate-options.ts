import { Option } from 'commander';

/** Options of all commands that judge: what the verdict is written to, beside the terminal. */
export function gateOutputOptions(): Option[] {
  return [
    new Option('--markdown <file>', 'write verdict, checks and what is worst as Markdown'),
    new Option('--junit <file>', 'write the checks as JUnit XML'),
  ];
}

/** Baseline that results are held against. */
export function baselineOption(): Option {
  return new Option('--baseline <file>', 'fail also where results got worse than this file says');
}
