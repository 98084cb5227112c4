import { describe, expect, it } from 'vitest';
import { ahead } from '../../../src/util/ahead.js';

const ITEMS = [1, 2, 3, 4, 5];

describe('ahead', () => {
  it.each([1, 2, 9])('gives every result in order, with %i begun before they are asked for', async (most) => {
    const begun: number[] = [];
    const results: number[] = [];
    for await (const result of ahead(
      ITEMS,
      async (item) => {
        begun.push(item);
        return item * 10;
      },
      most,
    )) {
      results.push(result);
      expect(begun).toHaveLength(Math.min(ITEMS.length, results.length + most));
    }
    expect(results).toEqual([10, 20, 30, 40, 50]);
  });

  it('gives nothing of nothing', async () => {
    expect(await ahead([], async () => 1).next()).toEqual({ done: true, value: undefined });
  });

  it('throws what an item throws in its turn, and leaves others that fail unheard', async () => {
    const results = ahead(ITEMS, async (item) => {
      if (item >= 2) throw new Error(`no ${item}`);
      return item;
    });
    expect((await results.next()).value).toBe(1);
    await expect(results.next()).rejects.toThrow('no 2');
    expect((await results.next()).done).toBe(true);
  });
});
