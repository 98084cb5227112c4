import { type QuantizedWeight, roundHalfEven } from '../../../src/numerics/int8.js';

/** The weight of a linear, one output channel a row. */
export interface WeightRows {
  /** `[outputs, inputs]`. */
  readonly values: Float32Array;
  readonly outputs: number;
  readonly inputs: number;
}

/** Largest magnitude of a code: -128 is left out, as in {@link QuantizedWeight}. */
export const MOST = 127;

export function nearestCode(value: number, scale: number): number {
  return Math.max(-MOST, Math.min(MOST, roundHalfEven(value / scale)));
}

/** Codes nearest to the weight; what lies beyond the last is clipped. @param scales one for each output channel */
export function roundToNearest({ values, inputs }: WeightRows, scales: Float32Array): QuantizedWeight {
  const codes = new Int8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    codes[i] = nearestCode(values[i] as number, scales[Math.floor(i / inputs)] as number);
  }
  return { values: codes, scales };
}

/** Largest magnitude of each output channel. */
export function channelMaxima({ values, outputs, inputs }: WeightRows): Float32Array {
  return Float32Array.from({ length: outputs }, (_, output) =>
    values.subarray(output * inputs, (output + 1) * inputs).reduce((most, w) => Math.max(most, Math.abs(w)), 0),
  );
}
