import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { promptsOf, type Shard } from '../../../src/calibrate/shard.js';
import { expectRefusal, thrownBy } from '../helpers/errors.js';

describe('promptsOf', () => {
  it.each<[Shard | null, number, number[]]>([
    [null, 3, [0, 1, 2]],
    [[1, 1], 3, [0, 1, 2]],
    [[1, 2], 5, [0, 2, 4]],
    [[2, 2], 5, [1, 3]],
    [[3, 3], 3, [2]],
  ])('of shard %j of %i prompts are %j', (shard, prompts, expected) => {
    expect(promptsOf(shard, prompts)).toEqual(expected);
  });

  it('deals every prompt to one shard, none with two prompts more than another', () => {
    const run = fc
      .integer({ min: 1, max: 60 })
      .chain((prompts) => fc.record({ prompts: fc.constant(prompts), count: fc.integer({ min: 1, max: prompts }) }));
    fc.assert(
      fc.property(run, ({ prompts, count }) => {
        const shards = Array.from({ length: count }, (_, i) => promptsOf([i + 1, count], prompts));
        expect(shards.flat().toSorted((a, b) => a - b)).toEqual(promptsOf(null, prompts));
        for (const shard of shards) expect(shard).toEqual(shard.toSorted((a, b) => a - b));
        const sizes = shards.map((shard) => shard.length);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('refuses a shard without prompts and says how many shards there may be', () => {
    expectRefusal(() => promptsOf([4, 4], 3), 'USAGE');
    const { message, hint } = thrownBy(() => promptsOf([5, 6], 4));
    expect(message).toBe('shard 5/6 has no prompt: there are 4');
    expect(hint).toBe('use at most 4 shards');
  });
});
