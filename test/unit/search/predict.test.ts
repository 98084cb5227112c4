import { describe, expect, it } from 'vitest';
import { Prediction } from '../../../src/search/predict.js';
import type { Sample } from '../../../src/search/samples.js';
import { groupsOf } from '../../../src/search/subject.js';

const samples = [0, 1].map((step) => ({ step }) as Sample);
const linears = {
  a: { damage: 0.005, noise: [0.001, 0.009] },
  b: { damage: 0.055, noise: [0.009, 0.091] },
  byHand: { damage: 0.09 },
};

describe('Prediction', () => {
  const prediction = new Prediction({ samples, linears }, ['a', 'b', 'byHand', 'unknown']);

  it('adds noise up at each sample and means the decibels', () => {
    expect(prediction.sqnr([0, 1])).toBeCloseTo((20 + 10) / 2, 9);
    expect(prediction.sqnr([0])).toBeCloseTo((30 - 10 * Math.log10(0.009)) / 2, 9);
  });

  it('takes a damage that was set by hand for every sample, and one that is not known for none', () => {
    expect(prediction.sqnr([2, 3])).toBeCloseTo(-10 * Math.log10(0.09), 9);
  });

  it('is infinite where nothing is quantized', () => {
    expect(prediction.sqnr([])).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('groupsOf', () => {
  const roles = (...names: string[]) => names.map((role) => ({ role }));

  it('has kinds of blocks, blocks and all', () => {
    const groups = groupsOf(
      roles('blocks.0.attn1.q', 'blocks.0.attn1.k', 'blocks.0.ffn.up', 'blocks.1.ffn.up', 'proj_out'),
    );
    expect(groups).toEqual([
      { name: 'blocks.0.attn1', members: [0, 1] },
      { name: 'blocks.0', members: [0, 1, 2] },
      { name: 'all', members: [0, 1, 2, 3, 4] },
    ]);
  });

  it('has none twice, and none of one linear', () => {
    expect(groupsOf(roles('blocks.3.ffn.up', 'blocks.3.ffn.down'))).toEqual([
      { name: 'blocks.3.ffn', members: [0, 1] },
    ]);
    expect(groupsOf(roles('linear'))).toEqual([]);
  });
});
