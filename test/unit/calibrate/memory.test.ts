import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Boundary } from '../../../src/analyze/boundaries.js';
import { type MemoryNeeds, planMemory } from '../../../src/calibrate/memory.js';
import { thrownBy } from '../helpers/errors.js';

/** One boundary fewer than there are parts, each at a position of its own. */
const between = (parts: readonly number[]): Boundary[] =>
  parts.slice(1).map((_, i) => ({ position: 10 * (i + 1), crossing: [`h${i}`] }));

/** Weights of each segment that cuts make of the parts. */
function segments(parts: readonly number[], boundaries: readonly Boundary[], cuts: readonly Boundary[]): number[] {
  const sums = [parts[0] ?? 0];
  for (const [i, boundary] of boundaries.entries()) {
    if (cuts.includes(boundary)) sums.push(0);
    sums.push((sums.pop() as number) + (parts[i + 1] as number));
  }
  return sums;
}

function plan({ fixed, parts }: MemoryNeeds, limit: number | undefined) {
  const boundaries = between(parts);
  const { cuts, bytes } = planMemory({ fixed, parts }, boundaries, limit);
  return { positions: cuts.map(({ position }) => position), weights: segments(parts, boundaries, cuts), bytes, cuts };
}

describe('planMemory', () => {
  it('runs the transformer whole where that fits, to the byte', () => {
    const needs = { fixed: 100, parts: [10, 20, 30] };
    expect(plan(needs, 160)).toMatchObject({ positions: [], weights: [60], bytes: 160 });
    expect(plan(needs, 159)).toMatchObject({ positions: [20], weights: [30, 30], bytes: 130 });
  });

  it.each<[number, number[], number[]]>([
    [110, [], [110]],
    [109, [30], [90, 20]],
    [90, [30], [90, 20]],
    [89, [20], [60, 50]],
    [60, [20], [60, 50]],
    [59, [10, 30], [40, 50, 20]],
    [50, [10, 30], [40, 50, 20]],
    [49, [10, 20, 30], [40, 20, 30, 20]],
    [40, [10, 20, 30], [40, 20, 30, 20]],
  ])('fills segments from the front, with %i bytes left for weights', (left, positions, weights) => {
    const planned = plan({ fixed: 100, parts: [40, 20, 30, 20] }, 100 + left);
    expect(planned).toMatchObject({ positions, weights, bytes: 100 + Math.max(...weights) });
  });

  it('leaves small parts together with their neighbours', () => {
    const needs = { fixed: 0, parts: [5, 50, 50, 50, 5] };
    expect(plan(needs, 60)).toMatchObject({ positions: [20, 30], weights: [55, 50, 55], bytes: 55 });
  });

  it.each<[string, number[], string]>([
    ['block by block', [2e6, 7e6, 3e6], 'block by block'],
    ['in one piece', [7e6], 'in one piece (its blocks cannot be cut apart)'],
  ])('refuses a limit below what is needed %s, and names the figures', (_, parts, how) => {
    const needs = { fixed: 5_000_001, parts };
    expect(plan(needs, 12_000_001).bytes).toBe(12_000_001);
    const { code, message, hint } = thrownBy(() => plan(needs, 12_000_000));
    expect(code).toBe('NO_MEMORY');
    expect(message).toContain(`needs about 13 MB, run ${how}`);
    expect(message).toContain('6 MB for activations and statistics, 7 MB for weights');
    expect(hint).toContain('--max-memory');
  });

  it('refuses a limit that nothing fits into', () => {
    expect(thrownBy(() => plan({ fixed: 10, parts: [1, 1] }, 1)).code).toBe('NO_MEMORY');
  });

  it('runs whole without a limit where there is memory for it', () => {
    expect(plan({ fixed: 1, parts: [1, 1, 1] }, undefined)).toMatchObject({ positions: [], bytes: 4 });
  });

  it('runs the finest segments without a limit where nothing fits', () => {
    const needs = { fixed: 1e15, parts: [3, 1, 4, 2] };
    expect(plan(needs, undefined)).toMatchObject({ positions: [10, 20, 30], weights: [3, 1, 4, 2], bytes: 1e15 + 4 });
    expect(plan({ fixed: 0, parts: [1e15, 3e15, 2e15] }, undefined)).toMatchObject({
      positions: [10, 20],
      bytes: 3e15,
    });
  });

  it('runs in one piece without a limit where blocks cannot be cut apart', () => {
    expect(plan({ fixed: 1e15, parts: [1e15] }, undefined)).toMatchObject({ positions: [], bytes: 2e15 });
  });

  const needs = fc.record({
    fixed: fc.nat(100),
    parts: fc.array(fc.nat(50), { minLength: 1, maxLength: 8 }),
  });

  it('chooses cuts in order, with every segment within the limit, and knows the largest', () => {
    fc.assert(
      fc.property(needs, fc.nat(300), ({ fixed, parts }, spare) => {
        const limit = fixed + Math.max(...parts) + spare;
        const { positions, weights, bytes, cuts } = plan({ fixed, parts }, limit);
        expect(positions).toEqual(
          between(parts)
            .map(({ position }) => position)
            .filter((each) => positions.includes(each)),
        );
        expect(new Set(cuts).size).toBe(cuts.length);
        expect(weights).toHaveLength(cuts.length + 1);
        expect(weights.reduce((a, b) => a + b, 0)).toBe(parts.reduce((a, b) => a + b, 0));
        for (const each of weights) expect(fixed + each).toBeLessThanOrEqual(limit);
        expect(bytes).toBe(fixed + Math.max(...weights));
      }),
      { numRuns: 300 },
    );
  });

  it('makes as few segments as any choice of cuts that fits', () => {
    fc.assert(
      fc.property(needs, fc.nat(120), ({ fixed, parts }, spare) => {
        const limit = fixed + Math.max(...parts) + spare;
        const boundaries = between(parts);
        const counts = Array.from({ length: 2 ** boundaries.length }, (_, choice) =>
          boundaries.filter((__, i) => (choice >> i) & 1),
        )
          .filter((cuts) => segments(parts, boundaries, cuts).every((each) => fixed + each <= limit))
          .map((cuts) => cuts.length);
        expect(plan({ fixed, parts }, limit).cuts).toHaveLength(Math.min(...counts));
      }),
      { numRuns: 200 },
    );
  });

  it('refuses exactly the limits that the largest part does not fit into', () => {
    fc.assert(
      fc.property(needs, fc.nat(200), ({ fixed, parts }, limit) => {
        const fits = fixed + Math.max(...parts) <= limit;
        if (fits) expect(plan({ fixed, parts }, limit).bytes).toBeLessThanOrEqual(limit);
        else expect(thrownBy(() => plan({ fixed, parts }, limit)).code).toBe('NO_MEMORY');
      }),
    );
  });
});
