import { describe, expect, it } from 'vitest';
import type { PlanEntry, PlanFile } from '../../../src/quantize/plan-file.js';
import type { FailingModel } from '../../../src/remedy/failing.js';
import { rungsFor } from '../../../src/remedy/rungs.js';
import { smooth } from '../../../src/remedy/smooth.js';
import { weights } from '../../../src/remedy/weights.js';

const UP: PlanEntry = { precision: 'int8', input: 'x', smooth: 'none', low: -1, high: 2, reason: 'scheme ffn' };

function failing(entries: Record<string, PlanEntry>, changes: Partial<FailingModel> = {}): FailingModel {
  const plan: PlanFile = {
    ...{ schema: 1, model: 'm', target: 'tensorrt', method: 'minmax', smooth: 'none', float: 'fp16' },
    linears: entries,
  };
  return { reference: 'fp', quantized: 'q', plan, planPath: 'q/plan.json', fitted: false, trained: false, ...changes };
}

const namesFor = (model: FailingModel): string[] => rungsFor(model).map(({ name }) => name);

describe('rungs', () => {
  it('come in the order of what they cost', () => {
    expect(namesFor(failing({ up: UP }))).toEqual(['smooth', 'layers', 'weights', 'qat']);
  });

  it('choose nothing anew that was chosen so', () => {
    expect(namesFor(failing({ up: UP }, { fitted: true }))).toEqual(['layers', 'weights', 'qat']);
  });

  it('leave activations alone that are not quantized', () => {
    const entries = { up: { precision: 'int8-weights' }, q: { precision: 'float16' } } as const;
    expect(namesFor(failing(entries))).toEqual(['layers', 'qat']);
  });

  it('take dynamic scales for quantized activations', () => {
    expect(namesFor(failing({ up: { precision: 'int8-dynamic', smooth: 'none' } }))).toContain('smooth');
  });

  it('are none for a plan that quantizes nothing', () => {
    expect(namesFor(failing({ q: { precision: 'float16' } }))).toEqual([]);
  });
});

const { plan: PLAN } = failing({
  up: UP,
  down: { precision: 'int8-dynamic', input: 'y', smooth: 0.5 },
  v: { precision: 'int8-weights' },
  q: { precision: 'float16', reason: 'soft' },
});

describe('smooth', () => {
  it('leaves ranges and strengths open, and precisions, inputs and reasons as they are', () => {
    expect(smooth.plan?.(PLAN)).toEqual({
      ...PLAN,
      ...{ method: 'auto', smooth: 'auto' },
      linears: {
        up: { precision: 'int8', input: 'x', reason: 'scheme ffn' },
        down: { precision: 'int8-dynamic', input: 'y' },
        v: { precision: 'int8-weights' },
        q: { precision: 'float16', reason: 'soft' },
      },
    });
  });
});

describe('weights', () => {
  it('quantizes weights alone where activations were quantized too', () => {
    expect(weights.plan?.(PLAN)).toEqual({
      ...PLAN,
      linears: {
        up: { precision: 'int8-weights', input: 'x', reason: 'remedy: weights alone' },
        down: { precision: 'int8-weights', input: 'y', reason: 'remedy: weights alone' },
        v: { precision: 'int8-weights' },
        q: { precision: 'float16', reason: 'soft' },
      },
    });
  });
});
