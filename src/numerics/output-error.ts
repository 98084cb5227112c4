import type { ActivationScale } from './int8.js';
import { roundHalfEven } from './int8.js';

/** What the weights that read an activation make of its errors. */
export interface OutputGain {
  /** `[channels]`, sum of w^2 over all output channels: an error e in channel k becomes e^2 gain[k] of squared error at the outputs. */
  readonly gain: Float64Array;
  /** Sum over output channels of the squared rounding error of one weight, step^2 / 12. */
  readonly weightNoise: number;
}

/**
 * Expected squared error at the outputs of linears whose input is quantized, summed over tokens. Errors of different channels are taken as
 * independent, so that it needs no matrix product: sum_k gain_k s_k^2 (x_k / s_k - q(x_k / s_k))^2 for the activation, and what the rounded
 * weights add to what the codes stand for.
 *
 * @param tokens `[rows, channels]`, already divided by `factors`
 * @param factors `[channels]` of smoothing, or undefined
 * @param scale undefined: one symmetric INT8 scale for each token, as it comes
 */
export function outputError(
  tokens: Float32Array,
  factors: Float32Array | undefined,
  { gain, weightNoise }: OutputGain,
  scale: ActivationScale | undefined,
): number {
  const channels = gain.length;
  const weighted = factors ? gain.map((g, k) => g * (factors[k] as number) ** 2) : gain;
  const zeroPoint = scale?.zeroPoint ?? 0;
  const least = (scale?.dtype === 'uint8' ? 0 : -127) - zeroPoint;
  const most = (scale?.dtype === 'uint8' ? 255 : 127) - zeroPoint;
  let error = 0;
  let energy = 0;
  for (let start = 0; start < tokens.length; start += channels) {
    const step = scale?.scale ?? tokenScale(tokens.subarray(start, start + channels));
    const inverse = 1 / step;
    for (let k = 0; k < channels; k++) {
      const x = tokens[start + k] as number;
      const rounded = roundHalfEven(x * inverse);
      const quantized = (rounded < least ? least : rounded > most ? most : rounded) * step;
      const lost = x - quantized;
      error += (weighted[k] as number) * lost * lost;
      energy += quantized * quantized;
    }
  }
  return error + energy * weightNoise;
}

/** The same measure of the output itself, which errors are held against. */
export function outputEnergy(tokens: Float32Array, { gain }: Pick<OutputGain, 'gain'>): number {
  let energy = 0;
  for (let start = 0; start < tokens.length; start += gain.length) {
    for (let k = 0; k < gain.length; k++) energy += (gain[k] as number) * (tokens[start + k] as number) ** 2;
  }
  return energy;
}

function tokenScale(token: Float32Array): number {
  let most = 0;
  for (const x of token) most = Math.max(most, Math.abs(x));
  return most === 0 ? 1 : most / 127;
}
