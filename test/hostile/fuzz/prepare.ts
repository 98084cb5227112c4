import { cp, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { findProducts } from '../../../src/analyze/leftovers.js';
import { type Calibration, readCalibration } from '../../../src/calibrate/file.js';
import { type LoadedModel, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { runPasses } from '../../../src/passes/pass.js';
import { type FittedPlan, fitPlan } from '../../../src/quantize/fit/plan.js';
import { makePlan, type PlanOptions } from '../../../src/quantize/plan.js';
import { rewriteModel } from '../../../src/quantize/rewrite.js';
import { refuseUnsupported } from '../../../src/quantize/support.js';

/** A calibration that was read, and its file. */
export interface CalibrationFile {
  readonly file: string;
  readonly calibration: Calibration;
}

/** Options of a plan, without those that a plan file has. */
export type Choices = Omit<PlanOptions, 'plan'>;

export const PLAN: Choices = {
  scheme: 'blocks',
  target: 'ort-cpu',
  method: 'minmax',
  percentile: 99.9,
  keep: [],
  smooth: 'none',
};

/** What `quantize` does before it writes, without asking whether the calibration is of this very model. */
export async function preparedPlan(
  loaded: LoadedModel,
  options: PlanOptions,
  { file, calibration }: CalibrationFile,
): Promise<FittedPlan> {
  refuseUnsupported(loaded.model, loaded.path);
  runPasses(loaded.model, NORMALIZE);
  const { graph } = loaded.model;
  const bound = makePlan(graph, options, calibration, findProducts(graph));
  return fitPlan(bound, options, { calibration, file, weights: loaded });
}

/** Quantizes a pipeline's transformer into another folder. */
export async function quantizedInto(source: string, calibration: string, target: string): Promise<void> {
  const loaded = await loadModel(path.join(source, 'transformer', 'model.onnx'));
  try {
    const read = await readCalibration(calibration, { held: false });
    const fitted = await preparedPlan(loaded, { ...PLAN, smooth: 0.5 }, { file: calibration, calibration: read });
    rewriteModel(loaded.model, fitted);
    loaded.model.metadata.set('wanq.scheme', 'blocks').set('wanq.target', 'ort-cpu');
    const folder = path.join(target, 'transformer');
    await mkdir(folder, { recursive: true });
    await saveModel(loaded.model, loaded, folder);
    await cp(path.join(source, 'transformer', 'config.json'), path.join(folder, 'config.json')).catch(() => {});
  } finally {
    await loaded.close();
  }
}
