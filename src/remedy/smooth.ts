import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type PlanFile, readPlan, writePlan } from '../quantize/plan-file.js';
import { planPathOf } from './failing.js';
import { quantizeByPlan } from './quantized.js';
import { hasCodes, MADE, quantizeCommand, quantizesActivations, type Rung, withEntries } from './rung.js';

/** Ranges and smoothing chosen anew, for the same precisions. */
export const smooth: Rung = {
  name: 'smooth',
  applies: ({ plan, fitted }) => quantizesActivations(plan) && !fitted,
  does: () =>
    'ranges and smoothing chosen anew by what errs least (--method auto --smooth auto), precisions as they are',
  costs: 'no bytes; no speed, but for a multiplication where nothing takes the smoothing in; quantizing once',
  plan: (plan) => ({
    ...withEntries(plan, (entry) => {
      if (!hasCodes(entry)) return entry;
      const { smooth: _, low: __, high: ___, ...rest } = entry;
      return rest;
    }),
    method: 'auto',
    smooth: 'auto',
  }),
  commands: (context) => [quantizeCommand(context, 'smooth', path.join(context.plans, 'smooth.json'))],
  run: async (attempt) => {
    const file = path.join(attempt.work, 'plan.json');
    await writePlan(file, (smooth.plan as (plan: PlanFile) => PlanFile)(attempt.failing.plan));
    await quantizeByPlan(attempt, file);
    const made = await readPlan(planPathOf(attempt.pipeline));
    if (choicesOf(made) !== choicesOf(attempt.failing.plan)) return MADE;
    await rm(file);
    return { made: false, why: 'the plan has these ranges and strengths already' };
  },
};

/** Everything of a plan that the written model depends on. */
function choicesOf({ linears }: PlanFile): string {
  const entries = Object.entries(linears).map(([key, { precision, smooth: alpha, low, high }]) => {
    return [key, precision, alpha ?? null, low ?? null, high ?? null];
  });
  return JSON.stringify(entries);
}
