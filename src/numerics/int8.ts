/** Affine INT8 quantization as ONNX's QuantizeLinear defines it: q = saturate(round_half_even(x / scale) + zero_point). */

/** 1.5 * 2^52: adding it leaves no bits for a fraction, so the FPU rounds half to even. Exact for |x| < 2^51. */
const ROUND = 6755399441055744;

export function roundHalfEven(value: number): number {
  return value + ROUND - ROUND;
}

export interface QuantizedWeight {
  /** Same shape and order as the weight, in [-127, 127]. */
  readonly values: Int8Array;
  /** One per output channel; the zero points are 0. */
  readonly scales: Float32Array;
}

/**
 * Symmetric per-channel weight quantization: scale = max|w| / 127 over each channel. -128 is left out, so that negation cannot
 * overflow and accumulators of S8 x S8 kernels stay symmetric.
 *
 * @param weight `[rows, columns]`, row-major
 * @param axis channel axis: 0 = one scale a row, 1 = one scale a column
 */
export function quantizeWeight(weight: Float32Array, rows: number, columns: number, axis: 0 | 1): QuantizedWeight {
  const scales = new Float32Array(axis === 0 ? rows : columns);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const channel = axis === 0 ? row : column;
      const magnitude = Math.abs(weight[i] as number);
      if (magnitude > (scales[channel] as number)) scales[channel] = magnitude;
    }
  }
  for (let channel = 0; channel < scales.length; channel++) {
    scales[channel] = positiveScale((scales[channel] as number) / 127);
  }
  const values = new Int8Array(weight.length);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const scale = scales[axis === 0 ? row : column] as number;
      const q = roundHalfEven((weight[i] as number) / scale);
      values[i] = Math.min(127, Math.max(-127, q));
    }
  }
  return { values, scales };
}

/** Quantization parameters of an activation: one scale and zero point for the whole tensor. */
export interface ActivationScale {
  readonly dtype: 'int8' | 'uint8';
  readonly scale: number;
  readonly zeroPoint: number;
}

/**
 * The scale that covers [low, high].
 * - int8: symmetric, zero point 0, codes -127..127.
 * - uint8: affine over the range widened to contain 0, codes 0..255, zero point rounded so that 0 is exact.
 */
export function activationScale(dtype: 'int8' | 'uint8', low: number, high: number): ActivationScale {
  if (dtype === 'int8') {
    const threshold = Math.max(Math.abs(low), Math.abs(high));
    return { dtype, scale: positiveScale(threshold / 127), zeroPoint: 0 };
  }
  const from = Math.min(low, 0);
  const to = Math.max(high, 0);
  const scale = positiveScale((to - from) / 255);
  return { dtype, scale, zeroPoint: Math.min(255, Math.max(0, roundHalfEven(-from / scale))) };
}

/** Smallest normal float32: a scale below it would be flushed to zero by some kernels. */
const MIN_SCALE = 2 ** -126;

/** Zeros quantize to zeros under any scale; 1 keeps theirs valid. */
function positiveScale(scale: number): number {
  return scale === 0 ? 1 : Math.max(Math.fround(scale), MIN_SCALE);
}
