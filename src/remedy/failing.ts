import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { loadGraph } from '../onnx/load.js';
import { PLAN_NAME } from '../pipeline/layout.js';
import { type PlanFile, readPlan } from '../quantize/plan-file.js';
import { exists } from '../util/files.js';

/** A quantized pipeline, as it was quantized. */
export interface FailingModel {
  /** Pipeline folders, as they were named. */
  readonly reference: string;
  readonly quantized: string;
  /** The plan that was carried out, and where it lies. */
  readonly plan: PlanFile;
  readonly planPath: string;
  /** Whether all its ranges and strengths of smoothing are what `auto` chose on a calibration, and none was prescribed by a plan file. */
  readonly fitted: boolean;
  /** Whether its weights are fine-tuned ones, and not the reference's. */
  readonly trained: boolean;
}

/** Where a quantized pipeline has its plan. */
export function planPathOf(pipeline: string): string {
  return path.join(pipeline, 'transformer', PLAN_NAME);
}

/**
 * @throws WanqError NOT_FOUND where the quantized pipeline has no plan: another tool or an older wanq made it; PLAN_INVALID
 */
export async function readFailing(reference: string, quantized: string): Promise<FailingModel> {
  const planPath = planPathOf(quantized);
  if (!(await exists(planPath))) {
    throw new WanqError(
      'NOT_FOUND',
      `${printable(quantized)} has no transformer/${PLAN_NAME}: another tool or an older wanq quantized it`,
      { hint: 'quantize it again with this wanq' },
    );
  }
  const plan = await readPlan(planPath);
  const { metadata } = await loadGraph(path.join(quantized, 'transformer', 'model.onnx'));
  const prescribed = metadata.get('wanq.scheme') === 'plan' || !metadata.has('wanq.inputs');
  const fitted = !prescribed && plan.method === 'auto' && plan.smooth === 'auto';
  return { reference, quantized, plan, planPath, fitted, trained: metadata.has('wanq.weights') };
}
