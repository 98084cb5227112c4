import type { FeatureNetwork } from './features.js';
import { featureStatistics, frechetDistance } from './metrics/frechet.js';

/** Frechet video distances of both models' videos to the reference set. */
export interface FvdOutcome {
  readonly n: number;
  readonly dim: number;
  readonly reference: number;
  readonly quantized: number;
}

export function fvdOutcome(
  { reference: truth, dim }: FeatureNetwork,
  sets: { reference: readonly Float32Array[]; quantized: readonly Float32Array[] },
): FvdOutcome {
  const distance = (set: readonly Float32Array[]): number =>
    set.length > 1 ? frechetDistance(featureStatistics(set), truth) : Number.NaN;
  return { n: sets.reference.length, dim, reference: distance(sets.reference), quantized: distance(sets.quantized) };
}
