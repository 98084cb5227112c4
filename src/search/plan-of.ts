import type { PlanEntry, PlanFile } from '../quantize/plan-file.js';
import type { Subject } from './subject.js';

/** What stands in a plan of a linear that search gave back. */
export const GIVEN_BACK = 'given back by search';

/**
 * The subject's plan with some of its linears given back. What the others read keeps its range and smoothing, which were chosen for all that read it;
 * where only some are left that read it, `quantize` chooses anew.
 */
export function planWithout(
  { plan, candidates }: Pick<Subject, 'plan' | 'candidates'>,
  givenBack: ReadonlySet<number>,
): PlanFile {
  const torn = new Set(candidates.filter((_, i) => givenBack.has(i)).map(({ activation }) => activation));
  const position = new Map(candidates.map(({ key }, i) => [key, i]));
  const entries = Object.entries(plan.linears).map(([key, entry]): [string, PlanEntry] => {
    const i = position.get(key);
    if (i === undefined) return [key, entry];
    if (givenBack.has(i)) return [key, { precision: plan.float === 'fp16' ? 'float16' : 'keep', reason: GIVEN_BACK }];
    if (!torn.has(candidates[i]?.activation as string)) return [key, entry];
    const { precision, reason } = entry;
    return [key, reason === undefined ? { precision } : { precision, reason }];
  });
  return { ...plan, linears: Object.fromEntries(entries) };
}
