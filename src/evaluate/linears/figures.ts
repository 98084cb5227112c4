import { type ActivationScale, activationScale } from '../../numerics/int8.js';
import { type OutputGain, outputEnergy, outputError } from '../../numerics/output-error.js';

/**
 * What each channel of a reference value is divided by to become that of another model, as smoothing does it: sum x^2 / sum x x'. Error that
 * does not go with x does not bend it.
 *
 * @param reference, other `[n, channels]`
 * @returns `[channels]`, 1 where a channel is silent or has nothing of x in it; and the share of x that x' explains with them
 */
export function channelFactors(
  reference: Float32Array,
  other: Float32Array,
  channels: number,
): { factors: Float32Array; explained: number } {
  const [power, product, otherPower] = [0, 0, 0].map(() => new Float64Array(channels)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  for (let i = 0, k = 0; i < reference.length; i++, k = k + 1 === channels ? 0 : k + 1) {
    const [x, y] = [reference[i] as number, other[i] as number];
    power[k] = (power[k] as number) + x * x;
    product[k] = (product[k] as number) + x * y;
    otherPower[k] = (otherPower[k] as number) + y * y;
  }
  const factors = new Float32Array(channels).fill(1);
  let whole = 0;
  let shared = 0;
  for (let k = 0; k < channels; k++) {
    const [xx, xy, yy] = [power[k] as number, product[k] as number, otherPower[k] as number];
    if (xx > 0 && xy > 0) factors[k] = xx / xy;
    whole += xx;
    if (yy > 0) shared += (xy * xy) / yy;
  }
  return { factors, explained: whole === 0 ? 1 : shared / whole };
}

/** Rows `[n, factors.length]`, each channel multiplied with its factor. */
export function scaleChannels(rows: Float32Array, factors: Float32Array): Float32Array {
  return rows.map((value, i) => value * (factors[i % factors.length] as number));
}

/** Shares of the range that was seen that a static scale is tried at. */
const SHARES = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];

/**
 * Signal to noise ratio that INT8 should have at a linear's output, dB: one weight scale for each output channel, rounding errors independent
 * of each other, and for the input the scale that it has, or else the one that errs least on these very rows.
 *
 * @param rows `[n, channels]` of the input, after smoothing by `factors`
 * @param scales that the input may have
 */
export function expectedSqnr(
  rows: Float32Array,
  factors: Float32Array,
  gain: OutputGain,
  scales: readonly ActivationScale[] = bestScales(rows),
): number {
  const errors = scales.map((scale) => outputError(rows, factors, gain, scale));
  const smoothed = { gain: gain.gain.map((g, k) => g * (factors[k] as number) ** 2) };
  return 10 * Math.log10(outputEnergy(rows, smoothed) / Math.min(...errors));
}

function bestScales(rows: Float32Array): ActivationScale[] {
  let low = 0;
  let high = 0;
  for (const x of rows) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  return SHARES.map((share) => activationScale('uint8', low * share, high * share));
}

/** Share of values outside [low, high]. */
export function shareOutside(rows: Float32Array, low: number, high: number): number {
  let outside = 0;
  for (const x of rows) if (x < low || x > high) outside++;
  return rows.length === 0 ? 0 : outside / rows.length;
}
