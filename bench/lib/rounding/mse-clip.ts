import { weightScales } from '../../../src/numerics/int8.js';
import { channelMaxima, nearestCode, type WeightRows } from './weight.js';

/** Shares of a channel's largest magnitude that become its end. */
const SHARES = Array.from({ length: 41 }, (_, i) => 1 - i / 200);

/**
 * For each output channel the scale, of those that clip it at 0.8 to 1 times its largest magnitude, with the least squared error of its weights.
 *
 * @param importance `[inputs]`, what the squared error of an input's weights counts; absent: all alike
 */
export function clippedScales(weight: WeightRows, importance?: Float64Array): Float32Array {
  const { values, inputs } = weight;
  return channelMaxima(weight).map((magnitude, output) => {
    const channel = values.subarray(output * inputs, (output + 1) * inputs);
    let best = 0;
    let least = Number.POSITIVE_INFINITY;
    for (const scale of weightScales(Float32Array.from(SHARES, (share) => share * magnitude))) {
      let error = 0;
      channel.forEach((w, k) => {
        error += (importance?.[k] ?? 1) * (w - scale * nearestCode(w, scale)) ** 2;
      });
      if (error >= least) continue;
      least = error;
      best = scale;
    }
    return best;
  });
}
