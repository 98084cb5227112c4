import { WanqError } from '../errors.js';

/** Part i of n of a run, i from 1. */
export type Shard = readonly [index: number, count: number];

/**
 * The prompts of a shard: every n-th, so that shards differ by one prompt at most.
 * @returns prompt indices, ascending
 * @throws WanqError USAGE where the shard has none
 */
export function promptsOf(shard: Shard | null, prompts: number): number[] {
  const all = Array.from({ length: prompts }, (_, index) => index);
  if (shard === null) return all;
  const [index, count] = shard;
  const own = all.filter((prompt) => prompt % count === index - 1);
  if (own.length > 0) return own;
  throw new WanqError('USAGE', `shard ${index}/${count} has no prompt: there are ${prompts}`, {
    hint: `use at most ${prompts} shards`,
  });
}
