import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findSmallestPlan, type GivingProblem, type Judge } from '../../../src/search/smallest-plan.js';

/** Linears of `blocks` x 3 kinds, two of each; the last kind is larger, as feed-forwards are. */
function problemOf(damages: readonly number[]): GivingProblem {
  const linears = damages.map((damage, i) => ({ damage, bytes: i % 6 < 4 ? 100 : 450 }));
  const groups = Array.from({ length: damages.length / 2 }, (_, g) => {
    const members = [2 * g, 2 * g + 1];
    return { members, damage: members.reduce((sum, i) => sum + (damages[i] as number), 0) };
  });
  return { linears, groups };
}

const bytesOf = ({ linears }: GivingProblem, members: Iterable<number>): number =>
  [...members].reduce((sum, i) => sum + (linears[i]?.bytes as number), 0);

/** Passes where as much noise is left as `limit`, as if linears were independent. */
function additive({ linears }: GivingProblem, limit: number): { judge: Judge; asked: ReadonlySet<number>[] } {
  const asked: ReadonlySet<number>[] = [];
  const judge: Judge = async (givenBack) => {
    asked.push(givenBack);
    return linears.reduce((sum, { damage }, i) => sum + (givenBack.has(i) ? 0 : damage), 0) <= limit;
  };
  return { judge, asked };
}

/** Bytes of the smallest set of whole groups that passes. */
function bruteForce(problem: GivingProblem, limit: number): number {
  const { linears, groups } = problem;
  const total = linears.reduce((sum, { damage }) => sum + damage, 0);
  let least = Number.POSITIVE_INFINITY;
  for (let bits = 0; bits < 2 ** groups.length; bits++) {
    const own = groups.filter((_, g) => bits & (2 ** g));
    const left = total - own.reduce((sum, { damage }) => sum + damage, 0);
    if (left <= limit) {
      least = Math.min(
        least,
        bytesOf(
          problem,
          own.flatMap(({ members }) => members),
        ),
      );
    }
  }
  return least;
}

const damages = [40, 3, 1, 2, 100, 5, 8, 1, 1, 4, 300, 20, 6, 2, 30, 1, 2, 9];

describe('findSmallestPlan', () => {
  it('gives nothing back where all passes, with one question', async () => {
    const problem = problemOf(damages);
    const { judge, asked } = additive(problem, 1e9);
    expect(await findSmallestPlan(problem, judge)).toEqual({ givenBack: new Set(), complete: true });
    expect(asked).toHaveLength(1);
  });

  it('says so where nothing passes, not even with everything given back', async () => {
    const problem = problemOf(damages);
    const { judge, asked } = additive(problem, -1);
    expect(await findSmallestPlan(problem, judge)).toEqual({ givenBack: undefined, complete: true });
    expect(asked.at(-1)?.size).toBe(damages.length);
    expect(asked.length).toBeLessThan(9);
  });

  it('gives everything back where nothing less passes', async () => {
    const problem = problemOf(damages);
    const { judge } = additive(problem, 0);
    expect((await findSmallestPlan(problem, judge)).givenBack?.size).toBe(damages.length);
  });

  it('is never larger than the best of whole groups, whatever the damages are', async () => {
    const drawn = fc.record({
      damages: fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 18, maxLength: 18 }),
      share: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(drawn, async ({ damages: of, share }) => {
        const problem = problemOf(of);
        const limit = share * of.reduce((sum, damage) => sum + damage, 0);
        const { judge, asked } = additive(problem, limit);
        const { givenBack, complete } = await findSmallestPlan(problem, judge);
        expect(complete).toBe(true);
        expect(bytesOf(problem, givenBack as ReadonlySet<number>)).toBeLessThanOrEqual(bruteForce(problem, limit));
        expect(asked.length).toBeLessThan(30);
      }),
      { numRuns: 60 },
    );
  });

  it('asks no set twice, and none of which a superset failed', async () => {
    const problem = problemOf(damages);
    const { judge, asked } = additive(problem, 120);
    await findSmallestPlan(problem, async (givenBack) => {
      const before = asked.slice();
      const passes = await judge(givenBack);
      const includes = (outer: ReadonlySet<number>): boolean => [...givenBack].every((i) => outer.has(i));
      for (const earlier of before) {
        expect([...earlier].sort()).not.toEqual([...givenBack].sort());
        const failed = problem.linears.reduce((sum, { damage }, i) => sum + (earlier.has(i) ? 0 : damage), 0) > 120;
        if (failed) expect(includes(earlier)).toBe(false);
      }
      return passes;
    });
    expect(asked.length).toBeGreaterThan(3);
  });

  it('takes back what was given back for nothing, where predictions are wrong', async () => {
    // Linear 10 is predicted to be the worst and does nothing; 4 alone decides.
    const problem = problemOf(damages.map((damage) => Math.min(damage, 150)));
    const { givenBack } = await findSmallestPlan(problem, async (set) => set.has(4));
    expect(givenBack).toEqual(new Set([4]));
  });

  it('answers with the best so far where it may ask no more', async () => {
    const problem = problemOf(damages);
    const { judge, asked } = additive(problem, 60);
    const whole = await findSmallestPlan(problem, judge);
    for (let most = 1; most < asked.length; most++) {
      let count = 0;
      const limited = await findSmallestPlan(problem, async (givenBack) =>
        count++ < most ? additive(problem, 60).judge(givenBack) : undefined,
      );
      expect(limited.complete).toBe(false);
      if (!limited.givenBack) continue;
      const [bytes, least] = [limited.givenBack, whole.givenBack as ReadonlySet<number>].map((of) =>
        bytesOf(problem, of),
      );
      expect(bytes).toBeGreaterThanOrEqual(least as number);
    }
  });

  it('asks few questions where nothing is known of the damages', async () => {
    const problem = problemOf(damages.map(() => 0));
    let count = 0;
    const { givenBack } = await findSmallestPlan(problem, async (set) => {
      count++;
      return set.size >= 7;
    });
    expect(givenBack?.size).toBe(7);
    expect(count).toBeLessThan(30);
  });

  describe('where bytes are limited', () => {
    const limited = (bytesLimit: number): GivingProblem => ({ ...problemOf(damages), bytesLimit });

    it('asks for no set that is larger, and finds one that fits', async () => {
      const problem = limited(900);
      const { judge, asked } = additive(problem, 150);
      const { givenBack, complete } = await findSmallestPlan(problem, judge);
      expect(complete).toBe(true);
      expect(bytesOf(problem, givenBack ?? [])).toBeLessThanOrEqual(900);
      expect(givenBack).toContain(10);
      for (const set of asked) expect(bytesOf(problem, set)).toBeLessThanOrEqual(900);
    });

    it('finds none where a larger one were needed, and has asked for the least noisy', async () => {
      const problem = limited(600);
      const { judge, asked } = additive(problem, 20);
      expect(await findSmallestPlan(problem, judge)).toEqual({ givenBack: undefined, complete: true });
      const noise = asked.map((set) => damages.reduce((sum, damage, i) => sum + (set.has(i) ? 0 : damage), 0));
      // The largest linear, and the largest of the small ones.
      expect(Math.min(...noise)).toBe(damages.reduce((a, b) => a + b) - 300 - 40);
    });

    it('asks of a limit below the smallest linear for the plan alone', async () => {
      const { judge, asked } = additive(limited(50), 0);
      expect(await findSmallestPlan(limited(50), judge)).toEqual({ givenBack: undefined, complete: true });
      expect(asked).toEqual([new Set()]);
    });

    it('ends whatever the damages and the limit are', async () => {
      const drawn = fc.record({
        damages: fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 18, maxLength: 18 }),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
        bytesLimit: fc.integer({ min: 0, max: 4000 }),
      });
      await fc.assert(
        fc.asyncProperty(drawn, async ({ damages: of, share, bytesLimit }) => {
          const problem = { ...problemOf(of), bytesLimit };
          const { judge, asked } = additive(problem, share * of.reduce((a, b) => a + b));
          const { complete } = await findSmallestPlan(problem, judge);
          expect(complete).toBe(true);
          for (const set of asked) expect(bytesOf(problem, set)).toBeLessThanOrEqual(bytesLimit);
        }),
      );
    });
  });
});
