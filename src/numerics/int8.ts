import { ceilToHalf, floorToHalf, HALF_MAX } from './half.js';

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
 * The largest magnitude of each channel of a part of a weight.
 *
 * @param weight `[rows, columns]`, row-major; rows may be a part of a larger weight's
 * @param axis channel axis: 0 = a channel is a row, 1 = a channel is a column
 * @param maxima one for each channel; raised where the part holds more
 * @returns whether every value seen so far is finite
 */
export function raiseMaxima(
  weight: Float32Array,
  rows: number,
  columns: number,
  axis: 0 | 1,
  maxima: Float32Array,
): boolean {
  // Without its sign bit a float32 orders as its bits do, infinity and NaN above all numbers.
  const bits = new Int32Array(weight.buffer, weight.byteOffset, weight.length);
  const largest = new Int32Array(maxima.buffer, maxima.byteOffset, maxima.length);
  for (let row = 0, i = 0; row < rows; row++) {
    if (axis === 0) {
      let most = largest[row] as number;
      for (const end = i + columns; i < end; i++) {
        const magnitude = (bits[i] as number) & 0x7fffffff;
        if (magnitude > most) most = magnitude;
      }
      largest[row] = most;
    } else {
      for (let column = 0; column < columns; column++, i++) {
        const magnitude = (bits[i] as number) & 0x7fffffff;
        if (magnitude > (largest[column] as number)) largest[column] = magnitude;
      }
    }
  }
  return maxima.every(Number.isFinite);
}

/**
 * A channel of zeros has the smallest normal number: onnxruntime's kernel for a dequantized weight adds and takes away 128 scales for each input,
 * and what rounding leaves of that is in the output.
 *
 * @param type `float16`: rounded up to a value of that type
 * @returns max|w| / 127 of each channel, as {@link quantizeWeight} defines it
 */
export function weightScales(maxima: Float32Array, type: 'float32' | 'float16' | undefined = 'float32'): Float32Array {
  return maxima.map((magnitude) => {
    if (magnitude === 0) return ZERO_SCALE[type];
    const scale = positiveScale(magnitude / 127);
    return type === 'float16' ? ceilToHalf(scale) : scale;
  });
}

/** Rows and columns that are transposed together, so that both sides stay in the processor's cache. */
const TRANSPOSE_BLOCK = 32;

/**
 * Quantizes a part of a weight with scales that cover it: no code can leave [-127, 127].
 *
 * @param weight `[rows, columns]`, row-major
 * @param axis channel axis
 * @param scales one for each channel
 * @param transposed whether the codes come out as `[columns, rows]`
 * @param codes receives the codes
 * @param stride, first of transposed codes: length of a line of `codes`, and where in it the part's rows begin
 */
export function quantizeInto(
  weight: Float32Array,
  rows: number,
  columns: number,
  axis: 0 | 1,
  scales: Float32Array,
  transposed: boolean,
  codes: Int8Array,
  stride: number = rows,
  first = 0,
): void {
  const block = transposed ? TRANSPOSE_BLOCK : columns;
  const step = transposed ? stride : 1;
  for (let top = 0; top < rows; top += TRANSPOSE_BLOCK) {
    const bottom = Math.min(rows, top + TRANSPOSE_BLOCK);
    for (let left = 0; left < columns; left += block) {
      const right = Math.min(columns, left + block);
      for (let row = top; row < bottom; row++) {
        let from = row * columns + left;
        let to = transposed ? left * stride + first + row : from;
        if (axis === 0) {
          const scale = scales[row] as number;
          for (let column = left; column < right; column++, from++, to += step) {
            codes[to] = (weight[from] as number) / scale + ROUND - ROUND;
          }
        } else {
          for (let column = left; column < right; column++, from++, to += step) {
            codes[to] = (weight[from] as number) / (scales[column] as number) + ROUND - ROUND;
          }
        }
      }
    }
  }
}

/**
 * Symmetric per-channel weight quantization: scale = max|w| / 127 over each channel. -128 is left out, so that negation cannot
 * overflow and accumulators of S8 x S8 kernels stay symmetric.
 *
 * @param weight `[rows, columns]`, row-major
 * @param axis channel axis: 0 = one scale a row, 1 = one scale a column
 * @param transposed whether the codes come out as `[columns, rows]`
 */
export function quantizeWeight(
  weight: Float32Array,
  rows: number,
  columns: number,
  axis: 0 | 1,
  transposed = false,
  type: 'float32' | 'float16' = 'float32',
): QuantizedWeight {
  const maxima = new Float32Array(axis === 0 ? rows : columns);
  raiseMaxima(weight, rows, columns, axis, maxima);
  const scales = weightScales(maxima, type);
  const values = new Int8Array(weight.length);
  quantizeInto(weight, rows, columns, axis, scales, transposed, values);
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
 *
 * @param type `float16`: the scale is rounded up to a value of that type; down where a code would stand for more than that type holds
 * @throws RangeError for an end that is not finite
 */
export function activationScale(
  dtype: 'int8' | 'uint8',
  low: number,
  high: number,
  type: 'float32' | 'float16' = 'float32',
): ActivationScale {
  if (!Number.isFinite(low) || !Number.isFinite(high)) throw new RangeError(`no scale covers ${low} .. ${high}`);
  const rounded = (scale: number): number =>
    type === 'float16' ? ceilToHalf(positiveScale(scale)) : positiveScale(scale);
  /** @param most codes between 0 and the one that is farthest from it */
  const bounded = (scale: number, most: number): number =>
    type === 'float16' && !fitsHalf(scale, most) ? floorToHalf(HALF_MAX / most) : scale;
  if (dtype === 'int8') {
    const threshold = Math.max(Math.abs(low), Math.abs(high));
    return { dtype, scale: bounded(rounded(threshold / 127), 128), zeroPoint: 0 };
  }
  const from = Math.min(low, 0);
  const to = Math.max(high, 0);
  const scale = rounded((to - from) / 255);
  const zeroPoint = Math.min(255, Math.max(0, roundHalfEven(-from / scale)));
  return { dtype, scale: bounded(scale, Math.max(zeroPoint, 255 - zeroPoint)), zeroPoint };
}

/** From here on a number becomes infinite in FP16. */
const INFINITE_FROM = 65520;

/** Whether codes up to `most`, times a scale of FP16, are finite in FP16: what DequantizeLinear makes of them. */
export function fitsHalf(scale: number, most = 127): boolean {
  return scale * most < INFINITE_FROM;
}

/** Smallest normal float32: a scale below it would be flushed to zero by some kernels. */
const MIN_SCALE = 2 ** -126;

const ZERO_SCALE = { float32: MIN_SCALE, float16: 2 ** -14 } as const;

/** Zeros quantize to zeros under any scale; 1 leaves room for what an activation becomes that was 0 so far. */
function positiveScale(scale: number): number {
  return scale === 0 ? 1 : Math.max(Math.fround(scale), MIN_SCALE);
}
