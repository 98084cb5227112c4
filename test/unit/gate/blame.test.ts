import { describe, expect, it } from 'vitest';
import { blameLines, worstLinears, worstSteps, worstVideos } from '../../../src/gate/blame.js';
import { HOSTILE, results } from './fixture.js';

const linear = (name: string, excess: number | null, sqnr: number | null = 20) => ({
  ...{ linear: name, sqnr, attainable: 40, excess },
});

describe('what is worst', () => {
  it('is by excess for linears, by SQNR for steps and prompts', () => {
    expect(worstLinears(results(), 5).map((row) => row.linear)).toEqual(['blocks.0.ffn.down', 'blocks.0.ffn.up']);
    expect(worstSteps(results(), 2).map(({ step, branch }) => [step, branch])).toEqual([
      [1, 'cond'],
      [1, 'uncond'],
    ]);
    expect(worstVideos(results(), 1).map(({ prompt }) => prompt)).toEqual(['b']);
  });

  it('puts what is not a number first, and leaves out what was not measured or lost nothing', () => {
    const linears = [
      linear('fine', 1),
      linear('unmeasured', null),
      linear('exact', Number.NaN, Number.POSITIVE_INFINITY),
      linear('infinite', Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
      linear('broken', Number.NaN, Number.NaN),
      linear('gone', Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY),
    ];
    const names = worstLinears(results({ linears }), 9).map((row) => row.linear);
    expect(names).toEqual(['infinite', 'broken', 'fine', 'gone']);
  });

  it('is told in a line each, and not at all where nothing was measured', () => {
    expect(blameLines(results())).toEqual([
      'look first at linear blocks.0.ffn.down: 3.000 dB lost beyond what INT8 costs there (SQNR 40.000 dB, INT8 can have 43.000 dB)',
      'worst step: 2 cond (timestep 500.5): SQNR 40.000 dB',
      'worst prompt: "b" seed 1001: SQNR 42.000 dB',
    ]);
    expect(blameLines({ linears: [], steps: [], videos: [] })).toEqual([]);
  });

  it('tells of a scale that is not the one of the plan', () => {
    const of = (scaleRatio: number) => blameLines(results({ linears: [{ ...linear('a', 12), scaleRatio }] }))[0];
    expect(of(4)).toMatch(/; the scale of its input is 4\.000 x that of its plan\)$/);
    expect(of(1.001)).not.toContain('scale');
  });

  it('keeps names to one line without control characters', () => {
    const lines = blameLines(
      results({
        linears: [linear(HOSTILE, 3)],
        videos: [{ prompt: HOSTILE, seed: 1, psnr: 1, sqnr: 1 }],
      }),
    );
    for (const line of lines) expect(line).not.toMatch(/\p{Cc}/u);
  });
});
