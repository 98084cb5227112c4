import { Option } from 'commander';
import { duration, integer, number } from './options.js';

/** What `wanq search` is bounded by, wherever it is run. */
export function searchingOptions(defaults: { giveBack: number | undefined }): Option[] {
  const giveBack = new Option(
    '--give-back <percent>',
    'percent of the saved bytes that search may give back at most',
  ).argParser(number(0, 100));
  return [
    new Option(
      '--samples <n>',
      'places of the sampling chains that sensitivity is measured at, whatever time they take',
    ).argParser(integer(1)),
    new Option('--evaluations <n>', 'plans that search evaluates at most, those in the cache left out')
      .argParser(integer(1, 10_000))
      .default(16),
    new Option(
      '--budget <time>',
      'time of a search, such as 2h: a third of it for sensitivity at most, and no evaluation is begun that would not end in it',
    ).argParser(duration),
    defaults.giveBack === undefined ? giveBack.default(undefined, 'all') : giveBack.default(defaults.giveBack),
  ];
}

/** For sensitivity where no time is given for all, ms. */
const SENSITIVITY_MS = 600_000;

/** What a search may take, as `SearchOptions` has it. */
export function searchBounds({ samples, budget, giveBack }: { samples?: number; budget?: number; giveBack?: number }): {
  readonly sensitivityBudget: { readonly samples: number } | { readonly ms: number };
  readonly budgetMs: number | undefined;
  readonly giveBack: number | undefined;
} {
  return {
    sensitivityBudget: samples === undefined ? { ms: budget === undefined ? SENSITIVITY_MS : budget / 3 } : { samples },
    budgetMs: budget,
    giveBack: giveBack === undefined ? undefined : giveBack / 100,
  };
}
