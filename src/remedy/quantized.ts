import { DEFAULT_PERCENTILE } from '../quantize/options.js';
import { type QuantizeSummary, quantize } from '../quantize/quantize.js';
import type { Attempt } from './rung.js';

/** Quantizes the reference by a plan file, with the failing pipeline's other components. @throws WanqError as {@link quantize} */
export function quantizeByPlan(
  { failing: { reference, quantized, plan }, calibration, pipeline, signal, onProgress }: Attempt,
  file: string,
  weights?: string,
): Promise<QuantizeSummary> {
  return quantize({
    ...{ pipeline: reference, components: quantized, calibration, plan: file, weights },
    // The plan goes before these.
    ...{ scheme: 'blocks', target: plan.target, method: plan.method, percentile: DEFAULT_PERCENTILE, keep: [] },
    ...{ output: pipeline, link: true, verify: 'load', signal },
    onFitted: (done, total) => onProgress?.('choosing ranges', done, total),
  });
}
