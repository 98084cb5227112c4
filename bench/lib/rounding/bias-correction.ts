import {
  type ActivationScale,
  activationScale,
  type QuantizedWeight,
  roundHalfEven,
} from '../../../src/numerics/int8.js';
import { means } from './moments.js';
import type { WeightRows } from './weight.js';

/** How the input of a linear is quantized: not at all, with one scale a token as it comes, or with one for the tensor. */
export type ActivationCodes = 'none' | 'token' | ActivationScale;

/**
 * What quantization adds to each output on average, to be taken off the bias: E[q(x)] q(W) - E[x] W.
 *
 * Source: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section 4.2, with means
 * over tokens in place of those of batch normalization.
 *
 * @param tokens `[rows, inputs]`
 * @returns `[outputs]`
 */
export function meanOutputError(
  tokens: Float32Array,
  { values, outputs, inputs }: WeightRows,
  rounded: QuantizedWeight,
  codes: ActivationCodes,
): Float64Array {
  const exact = means(tokens, inputs);
  const quantized = codes === 'none' ? exact : means(dequantized(tokens, inputs, codes), inputs);
  return Float64Array.from({ length: outputs }, (_, output) => {
    let error = 0;
    for (let k = 0, i = output * inputs; k < inputs; k++, i++) {
      const weight = (rounded.values[i] as number) * (rounded.scales[output] as number);
      error += (quantized[k] as number) * weight - (exact[k] as number) * (values[i] as number);
    }
    return error;
  });
}

/** What the codes of tokens stand for. */
function dequantized(tokens: Float32Array, channels: number, codes: Exclude<ActivationCodes, 'none'>): Float32Array {
  const result = new Float32Array(tokens.length);
  for (let start = 0; start < tokens.length; start += channels) {
    const token = tokens.subarray(start, start + channels);
    const { scale, zeroPoint } = codes === 'token' ? tokenScale(token) : codes;
    const [least, most] = codes !== 'token' && codes.dtype === 'uint8' ? [0, 255] : [-128, 127];
    token.forEach((x, k) => {
      const code = Math.max(least, Math.min(most, roundHalfEven(x / scale) + zeroPoint));
      result[start + k] = (code - zeroPoint) * scale;
    });
  }
  return result;
}

function tokenScale(token: Float32Array): ActivationScale {
  const most = token.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
  return activationScale('int8', -most, most);
}
