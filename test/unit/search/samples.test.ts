import { describe, expect, it } from 'vitest';
import { chooseSamples, promptsOf, type SampleSpace, sampleLimit } from '../../../src/search/samples.js';
import { sampleCount } from '../../../src/search/sensitivity.js';

const timesteps = Array.from({ length: 10 }, (_, i) => 1000 - 100 * i);
const sigmas = [...timesteps.map((timestep) => timestep / 1000), 0];
const space: SampleSpace = { prompts: 3, branches: ['cond', 'uncond'], scheduler: { timesteps, sigmas }, buckets: 5 };

describe('chooseSamples', () => {
  it('takes every place once where all are asked for', () => {
    const samples = chooseSamples(sampleLimit(space), space);
    const places = new Set(samples.map(({ prompt, step, branch }) => `${prompt} ${step} ${branch}`));
    expect([samples.length, places.size]).toEqual([60, 60]);
  });

  it.each([1, 2, 5, 7, 10, 13, 30])('spreads %i evenly over the steps, none twice', (count) => {
    const samples = chooseSamples(count, space);
    const perStep = timesteps.map((_, step) => samples.filter((sample) => sample.step === step).length);
    const [least, most] = [Math.min(...perStep), Math.max(...perStep)];
    expect(samples).toHaveLength(count);
    expect(most - least).toBeLessThanOrEqual(1);
    expect(new Set(samples.map((sample) => JSON.stringify(sample))).size).toBe(count);
  });

  it('takes both branches and all prompts where there are enough samples', () => {
    const samples = chooseSamples(6, space);
    expect(promptsOf(samples)).toEqual([0, 1, 2]);
    expect(samples.map(({ branch }) => branch)).toEqual(['cond', 'uncond', 'cond', 'uncond', 'cond', 'uncond']);
    expect(promptsOf(chooseSamples(2, space))).toEqual([0]);
  });

  it('tells timestep and bucket', () => {
    expect(chooseSamples(1, space)).toEqual([{ prompt: 0, step: 5, branch: 'cond', timestep: 500, bucket: 2 }]);
  });
});

describe('sampleCount', () => {
  it('takes as many as the time is enough for, with the chains they come from', () => {
    // One sample: 10 units and a chain of 20; two: 40; three begin another chain: 70.
    expect(sampleCount({ ms: 300 }, space, 10, 10)).toBe(1);
    expect(sampleCount({ ms: 400 }, space, 10, 10)).toBe(2);
    expect(sampleCount({ ms: 699 }, space, 10, 10)).toBe(2);
    expect(sampleCount({ ms: 700 }, space, 10, 10)).toBe(3);
  });

  it('takes one at least and no more than there are', () => {
    expect(sampleCount({ ms: 1 }, space, 10, 10)).toBe(1);
    expect(sampleCount({ ms: 1e9 }, space, 10, 10)).toBe(60);
    expect(sampleCount({ samples: 100 }, space, 10, 10)).toBe(60);
    expect(sampleCount({ samples: 7 }, space, 10, 1e9)).toBe(7);
  });
});
