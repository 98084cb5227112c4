import type { QuantizedWeight } from '../../../src/numerics/int8.js';
import { nearestCode, type WeightRows } from './weight.js';

/** Added to the diagonal of the second moments, as a share of its mean. */
const DAMPING = 0.01;

/** In which order a channel's weights are rounded: as they lie, or those of the largest inputs first. */
export type RoundingOrder = 'natural' | 'descending';

/** What the rounding of one input's weights leaves for the inputs after it to make up for. One for all linears that read the activation. */
export interface Compensation {
  /** Inputs in the order in which they are rounded. */
  readonly order: readonly number[];
  /** Of the upper Cholesky factor U of the damped moments' inverse: an error e at `order[i]` takes e U[i][j] / U[i][i] off each `order[j]` behind it. */
  readonly rows: readonly Float64Array[];
}

/**
 * With the inputs in reverse order, the damped moments are L L^T and U is the inverse of L read from its end: the inverse of the moments itself is
 * never made.
 *
 * @param moments E[x x^T], rows of `[inputs, inputs]`
 */
export function compensation(moments: readonly Float64Array[], order: RoundingOrder): Compensation {
  const diagonal = moments.map((row, k) => row[k] as number);
  const inputs = [...moments.keys()];
  if (order === 'descending') inputs.sort((a, b) => (diagonal[b] as number) - (diagonal[a] as number));
  const damping = (DAMPING * diagonal.reduce((sum, x) => sum + x, 0)) / inputs.length;
  const backwards = inputs.toReversed();
  const lower = backwards.map((k, i) => Float64Array.from(backwards.slice(0, i + 1), (j) => moments[k]?.[j] as number));
  for (const [i, row] of lower.entries()) row[i] = (row[i] as number) + damping;
  factorize(lower);
  invert(lower);
  const rows = lower.toReversed().map((row, i) => {
    const whole = new Float64Array(inputs.length);
    whole.set(row.toReversed(), i);
    return whole;
  });
  return { order: inputs, rows };
}

/** Rows of the lower half of a positive definite matrix become those of its Cholesky factor. */
function factorize(lower: readonly Float64Array[]): void {
  for (let i = 0; i < lower.length; i++) {
    const row = lower[i] as Float64Array;
    for (let j = 0; j <= i; j++) {
      const other = lower[j] as Float64Array;
      let rest = row[j] as number;
      for (let k = 0; k < j; k++) rest -= (row[k] as number) * (other[k] as number);
      if (j === i && !(rest > 0)) throw new Error('the second moments are not positive definite');
      row[j] = j === i ? Math.sqrt(rest) : rest / (other[j] as number);
    }
  }
}

/** Rows of a lower triangular matrix become those of its inverse. */
function invert(lower: readonly Float64Array[]): void {
  for (let i = 0; i < lower.length; i++) {
    const row = lower[i] as Float64Array;
    const diagonal = row[i] as number;
    const sums = new Float64Array(i);
    for (let k = 0; k < i; k++) {
      const above = lower[k] as Float64Array;
      const factor = row[k] as number;
      for (let j = 0; j <= k; j++) sums[j] = (sums[j] as number) + factor * (above[j] as number);
    }
    for (let j = 0; j < i; j++) row[j] = -(sums[j] as number) / diagonal;
    row[i] = 1 / diagonal;
  }
}

/**
 * Rounds the weights of each output channel one input after the other; what each loses, those behind it make up for as far as the second moments of
 * the inputs allow.
 *
 * Source: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (arXiv 2210.17323), algorithm 1,
 * in one block.
 *
 * @param scales one for each output channel
 */
export function gptq(
  { values, outputs, inputs }: WeightRows,
  scales: Float32Array,
  { order, rows }: Compensation,
): QuantizedWeight {
  const codes = new Int8Array(values.length);
  const channel = new Float64Array(inputs);
  for (let output = 0; output < outputs; output++) {
    const scale = scales[output] as number;
    const first = output * inputs;
    order.forEach((k, i) => {
      channel[i] = values[first + k] as number;
    });
    order.forEach((k, i) => {
      const row = rows[i] as Float64Array;
      const w = channel[i] as number;
      const code = nearestCode(w, scale);
      codes[first + k] = code;
      const error = (w - code * scale) / (row[i] as number);
      for (let j = i + 1; j < inputs; j++) channel[j] = (channel[j] as number) - error * (row[j] as number);
    });
  }
  return { values: codes, scales };
}
