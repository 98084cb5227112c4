import path from 'node:path';
import { type PlanFile, writePlan } from '../quantize/plan-file.js';
import { quantizeByPlan } from './quantized.js';
import { hasCodes, MADE, quantizeCommand, quantizesActivations, type Rung, withEntries } from './rung.js';

/** Every INT8 linear weight-only. */
export const weights: Rung = {
  name: 'weights',
  applies: ({ plan }) => quantizesActivations(plan),
  does: () => 'weights alone in INT8 (int8-weights), activations as they were',
  costs: 'no bytes; the speed of INT8: all products are of floats; quantizing once',
  plan: (plan) =>
    withEntries(plan, (entry) => {
      if (!hasCodes(entry)) return entry;
      const { input } = entry;
      return { precision: 'int8-weights', ...(input === undefined ? {} : { input }), reason: 'remedy: weights alone' };
    }),
  commands: (context) => [quantizeCommand(context, 'weights', path.join(context.plans, 'weights.json'))],
  run: async (attempt) => {
    const file = path.join(attempt.work, 'plan.json');
    await writePlan(file, (weights.plan as (plan: PlanFile) => PlanFile)(attempt.failing.plan));
    await quantizeByPlan(attempt, file);
    return MADE;
  },
};
