import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FOLDS, type HeldSettings, heldOfPrompt, heldPlaces, heldTokens } from '../../../src/calibrate/held.js';
import { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { type Branch, branchesAt } from '../../../src/pipeline/denoise.js';

const settings: fc.Arbitrary<HeldSettings> = fc.record({
  held: fc.nat({ max: 300 }),
  promptCount: fc.integer({ min: 1, max: 40 }),
  steps: fc.integer({ min: 1, max: 12 }),
  guidance: fc.constantFrom(1, 5),
  seed: fc.nat(),
});

interface Forward {
  readonly index: number;
  readonly step: number;
  readonly branch: Branch;
}

/** Every forward of a calibration, in the order a run has them in. */
function forwardsOf({ promptCount, steps, guidance }: HeldSettings): Forward[] {
  return Array.from({ length: promptCount }, (_, index) =>
    Array.from({ length: steps }, (__, step) => branchesAt(guidance).map((branch) => ({ index, step, branch }))),
  ).flat(2);
}

const placesOf = (of: HeldSettings, { index, step, branch }: Forward) => heldPlaces(of, index, step, branch);

describe('heldPlaces', () => {
  it('keeps exactly as many tokens as are asked for, over all prompts', () => {
    fc.assert(
      fc.property(settings, (of) => {
        expect(forwardsOf(of).flatMap((forward) => placesOf(of, forward))).toHaveLength(of.held);
      }),
    );
  });

  it("fills each of a prompt's positions once, in the order of its forwards", () => {
    fc.assert(
      fc.property(settings, (of) => {
        const positions = new Map<number, number[]>();
        for (const forward of forwardsOf(of)) {
          const known = positions.get(forward.index) ?? [];
          positions.set(forward.index, [...known, ...placesOf(of, forward).map(({ position }) => position)]);
        }
        for (const [index, found] of positions) {
          expect(found).toEqual(Array.from({ length: heldOfPrompt(of, index) }, (_, i) => i));
        }
      }),
    );
  });

  it('takes tokens from within a forward', () => {
    fc.assert(
      fc.property(settings, (of) => {
        for (const { at } of forwardsOf(of).flatMap((forward) => placesOf(of, forward))) {
          expect(at >= 0 && at < 1).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('depends on nothing but the settings: any order of forwards gives the same places', () => {
    fc.assert(
      fc.property(
        settings.chain((of) => {
          const forwards = forwardsOf(of);
          return fc.tuple(fc.constant(of), fc.shuffledSubarray(forwards, { minLength: forwards.length }));
        }),
        ([of, shuffled]) => {
          const places = new Map(shuffled.map((forward) => [JSON.stringify(forward), placesOf(of, forward)]));
          for (const forward of forwardsOf(of)) {
            expect(places.get(JSON.stringify(forward))).toEqual(placesOf(of, forward));
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it("spreads a prompt's tokens over its steps and branches: no two forwards differ by more than one", () => {
    fc.assert(
      fc.property(settings, (of) => {
        const counts = forwardsOf({ ...of, promptCount: 1 }).map((forward) => placesOf(of, forward).length);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('takes tokens of both branches, and of the one that runs at guidance 1', () => {
    const of = { held: 8, promptCount: 1, steps: 4, guidance: 5, seed: 0 };
    const branches = forwardsOf(of).map((forward) => [forward.branch, placesOf(of, forward).length]);
    expect(branches).toEqual([0, 1, 2, 3].flatMap(() => [...branchesAt(5).map((branch) => [branch, 1])]));
    const single = { ...of, guidance: 1 };
    expect(forwardsOf(single).map((forward) => placesOf(single, forward).length)).toEqual([2, 2, 2, 2]);
  });

  it('takes other tokens with another seed, in other steps and in other branches', () => {
    const of = { held: 400, promptCount: 2, steps: 10, guidance: 5, seed: 3 };
    const places = (seed: number) => forwardsOf(of).flatMap((forward) => placesOf({ ...of, seed }, forward));
    const all = [...places(3), ...places(4)].map(({ at }) => at);
    expect(new Set(all).size).toBe(all.length);
  });
});

describe('heldOfPrompt', () => {
  it('differs by one token at most between prompts', () => {
    fc.assert(
      fc.property(settings, (of) => {
        const counts = Array.from({ length: of.promptCount }, (_, index) => heldOfPrompt(of, index));
        expect(counts.reduce((a, b) => a + b, 0)).toBe(of.held);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('is 0 or 1 where there are more prompts than tokens', () => {
    const counts = Array.from({ length: 10 }, (_, index) => heldOfPrompt({ held: 4, promptCount: 10 }, index));
    expect(counts.filter((count) => count === 1)).toHaveLength(4);
    expect(counts.filter((count) => count === 0)).toHaveLength(6);
  });

  it('gives every fold tokens where there are as many as folds', () => {
    for (const [held, promptCount] of [
      [4, 4],
      [4, 8],
      [64, 256],
      [128, 256],
      [8, 32],
      [5, 100],
    ] as const) {
      const folds = new Set<number>();
      for (let index = 0; index < promptCount; index++) {
        if (heldOfPrompt({ held, promptCount }, index) > 0) folds.add(index % FOLDS);
      }
      expect(folds.size, `${held} tokens of ${promptCount} prompts`).toBe(FOLDS);
    }
  });
});

describe('heldTokens', () => {
  const observed = (channels: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({ value: `v${i}`, channels, dtype: 'float32' as const }));

  it('is what is asked for', () => {
    expect(heldTokens(0, observed(10, 1))).toBe(0);
    expect(heldTokens(7, observed(1e9, 1))).toBe(7);
  });

  it('is 1,024 where that is small', () => {
    expect(heldTokens('auto', observed(64, 10))).toBe(1024);
  });

  it('stays below 512 MiB in all where activations are wide', () => {
    // 30 blocks of 4 inputs of 3,072 channels and one of 14,336.
    const wide = [...observed(3072, 120), ...observed(14_336, 30)];
    const bytes = 4 * (120 * 3072 + 30 * 14_336);
    const held = heldTokens('auto', wide);
    expect(held).toBe(Math.floor((512 * 2 ** 20) / bytes));
    expect(held).toBeLessThan(1024);
    expect(held).toBeGreaterThan(100);
  });

  it('leaves a token for each fold however wide they are', () => {
    expect(heldTokens('auto', observed(2 ** 28, 3))).toBe(FOLDS);
  });
});

describe('ActivationStatistics', () => {
  const CHANNELS = 2;
  const of: HeldSettings = { held: 12, promptCount: 5, steps: 3, guidance: 5, seed: 9 };

  /** What a forward shows: every row is told by its first channel. */
  const rowsOf = ({ index, step, branch }: Forward): Float32Array =>
    Float32Array.from({ length: 4 * CHANNELS }, (_, i) => {
      const [row, channel] = [Math.floor(i / CHANNELS), i % CHANNELS];
      const id = 1000 * index + 100 * step + (branch === 'cond' ? 0 : 50) + row;
      return channel === 0 ? id : -id;
    });

  function gathered(forwards: readonly Forward[]): ActivationStatistics {
    const statistics = new ActivationStatistics('x', CHANNELS);
    for (const forward of forwards) {
      const sample = rowsOf(forward);
      const column = (channel: number): number[] => [...sample].filter((_, i) => i % CHANNELS === channel);
      const over = (pick: (...values: number[]) => number): Float32Array =>
        Float32Array.from({ length: CHANNELS }, (_, channel) => pick(...column(channel)));
      const { index: prompt, branch } = forward;
      const places = placesOf(of, forward);
      const seen = { prompt, branch, bucket: 0, places, heldOfPrompt: heldOfPrompt(of, prompt) };
      statistics.add(seen, over(Math.min), over(Math.max), sample);
    }
    return statistics;
  }

  it('keeps the tokens at their positions, whole', () => {
    const { held } = gathered(forwardsOf(of));
    for (const forward of forwardsOf(of)) {
      for (const { position, at } of placesOf(of, forward)) {
        const row = Math.floor(4 * at);
        const kept = held.get(forward.index)?.subarray(position * CHANNELS, (position + 1) * CHANNELS);
        expect(kept).toEqual(rowsOf(forward).subarray(row * CHANNELS, (row + 1) * CHANNELS));
      }
    }
    expect([...held.values()].reduce((sum, tokens) => sum + tokens.length, 0)).toBe(of.held * CHANNELS);
  });

  it('keeps the same whatever order the prompts come in', () => {
    const forwards = forwardsOf(of);
    const other = gathered(forwards.toSorted((a, b) => b.index - a.index));
    const { held, folds } = gathered(forwards);
    expect([...other.held].sort(([a], [b]) => a - b)).toEqual([...held].sort(([a], [b]) => a - b));
    expect(other.folds).toEqual(folds);
  });

  it('keeps the extremes of each fold of prompts apart', () => {
    const { folds } = gathered(forwardsOf(of));
    // Prompts 0 and 4, then 1, 2 and 3 alone; the last row of the last step's second branch has the largest number.
    expect(folds.map(({ range }) => range.max)).toEqual([4253, 1253, 2253, 3253]);
    expect(folds.map(({ channelMin }) => channelMin[0])).toEqual([0, 1000, 2000, 3000]);
    expect(gathered(forwardsOf({ ...of, promptCount: 2 })).folds[3]?.range).toEqual({
      min: Number.POSITIVE_INFINITY,
      max: Number.NEGATIVE_INFINITY,
    });
  });
});
