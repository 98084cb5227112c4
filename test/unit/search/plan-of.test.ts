import { describe, expect, it } from 'vitest';
import type { PlanFile } from '../../../src/quantize/plan-file.js';
import { GIVEN_BACK, planWithout } from '../../../src/search/plan-of.js';
import type { Candidate } from '../../../src/search/subject.js';

const int8 = (low: number) => ({ precision: 'int8', smooth: 0.5, low, high: 4, reason: 'scheme' }) as const;
const plan: PlanFile = {
  ...{ schema: 1, model: 'm', target: 'ort-cpu', method: 'auto', smooth: 'auto', float: 'fp32' },
  linears: { q: int8(-1), k: int8(-1), out: int8(-2), embedder: { precision: 'float16', reason: 'kept' } },
};
const candidates = [
  ['q', 'x'],
  ['k', 'x'],
  ['out', 'y'],
].map(([key, activation]) => ({ key, activation }) as Candidate);

describe('planWithout', () => {
  it('is the whole plan where nothing is given back', () => {
    expect(planWithout({ plan, candidates }, new Set())).toEqual(plan);
  });

  it('leaves ranges to be chosen anew where only some are left that read an activation', () => {
    const { linears } = planWithout({ plan, candidates }, new Set([0]));
    expect(linears).toEqual({
      q: { precision: 'keep', reason: GIVEN_BACK },
      k: { precision: 'int8', reason: 'scheme' },
      out: plan.linears.out,
      embedder: plan.linears.embedder,
    });
  });

  it('gives back to FP16 where the plan stores what is not quantized so', () => {
    const { linears } = planWithout({ plan: { ...plan, float: 'fp16' }, candidates }, new Set([2]));
    expect(linears.out).toEqual({ precision: 'float16', reason: GIVEN_BACK });
    expect([linears.q, linears.k]).toEqual([plan.linears.q, plan.linears.k]);
  });
});
