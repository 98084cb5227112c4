import type { FailingModel } from './failing.js';
import { layers } from './layers.js';
import { qat } from './qat.js';
import type { Rung } from './rung.js';
import { smooth } from './smooth.js';
import { weights } from './weights.js';

/** By what they cost. docs/remedies.md says why in this order. */
const RUNGS: readonly Rung[] = [smooth, layers, weights, qat];

/** The rungs that apply to a model, in order. */
export function rungsFor(failing: FailingModel): Rung[] {
  return RUNGS.filter((rung) => rung.applies(failing));
}
