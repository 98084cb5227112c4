import { deriveSeed, MersenneTwister } from '../numerics/rng.js';
import type { ObservedValue } from '../passes/observe-activations.js';
import { type Branch, branchesAt } from '../pipeline/denoise.js';

/**
 * Prompts fall into this many folds, prompt i into fold i mod 4. Choices that one fold's tokens judge are made on what the others showed, as they
 * will meet prompts that calibration never saw.
 */
export const FOLDS = 4;

const HELD_BUDGET_BYTES = 512 * 2 ** 20;
const HELD_AT_MOST = 1024;

/** Tokens of each activation to keep whole; `auto` keeps 1,024, or as many as stay below 512 MiB in all. */
export function heldTokens(held: number | 'auto', observed: readonly ObservedValue[]): number {
  if (held !== 'auto') return held;
  const bytesPerToken = observed.reduce((sum, { channels }) => sum + 4 * channels, 0);
  return Math.max(FOLDS, Math.min(HELD_AT_MOST, Math.floor(HELD_BUDGET_BYTES / bytesPerToken)));
}

export interface HeldSettings {
  /** Tokens kept over all prompts. */
  readonly held: number;
  readonly promptCount: number;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
}

/** One token to keep of a forward. */
export interface HeldPlace {
  /** Position among the prompt's kept tokens. */
  readonly position: number;
  /** Where among the forward's sampled tokens it is, in [0, 1). */
  readonly at: number;
}

/** How many tokens one prompt gives, so that all prompts together give `held`, and each fold its part. */
export function heldOfPrompt({ held, promptCount }: Pick<HeldSettings, 'held' | 'promptCount'>, index: number): number {
  // Its place where prompts are sorted by fold.
  const longer = promptCount % FOLDS;
  const fold = index % FOLDS;
  const place = fold * Math.floor(promptCount / FOLDS) + Math.min(fold, longer) + Math.floor(index / FOLDS);
  return Math.floor(((place + 1) * held) / promptCount) - Math.floor((place * held) / promptCount);
}

/**
 * The tokens of one forward to keep: a prompt's are spread evenly over its steps and branches. Which they are depends on the settings alone, so
 * that any order of prompts, any shard and any resumed run keeps the same.
 */
export function heldPlaces(settings: HeldSettings, index: number, step: number, branch: Branch): HeldPlace[] {
  const branches = branchesAt(settings.guidance);
  const forwards = settings.steps * branches.length;
  const forward = step * branches.length + branches.indexOf(branch);
  const kept = heldOfPrompt(settings, index);
  const first = Math.ceil((forward * kept) / forwards - 0.5);
  const end = Math.ceil(((forward + 1) * kept) / forwards - 0.5);
  const generator = new MersenneTwister(deriveSeed(settings.seed, index, step, branch === 'cond' ? 2 : 3));
  return Array.from({ length: end - first }, (_, i) => ({ position: first + i, at: generator.uniform() }));
}
