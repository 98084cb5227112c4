/** Largest magnitude of a factor's logarithm: factors and their reciprocals are normal numbers of FP16. */
const MAX_LOG = 12;

/** Channels that were always zero have no magnitude to share out; this keeps their factors finite. */
const LEAST = 1e-6;

/**
 * SmoothQuant's factors: s = max|x|^alpha / max|w|^(1 - alpha) for each input channel. x / s and s w multiply to the same product; how much of
 * what is hard to quantize is moved from the activation into the weight grows with alpha. Scaled to a geometric mean of 1, which changes neither
 * side's relative ranges and keeps values where they were; bounded by 2^-12 and 2^12.
 *
 * Source: G. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (arXiv 2211.10438),
 * equation 4.
 *
 * @param activation `[channels]`, largest magnitude of each channel
 * @param weight `[channels]`, largest magnitude of each channel over all weights that read the activation
 * @param alpha in [0, 1]
 * @returns `[channels]`, positive
 */
export function smoothingFactors(activation: Float32Array, weight: Float32Array, alpha: number): Float32Array {
  const logs = Float64Array.from(activation, (magnitude, channel) => {
    const w = Math.max(weight[channel] as number, LEAST);
    return alpha * Math.log2(Math.max(magnitude, LEAST)) - (1 - alpha) * Math.log2(w);
  });
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  return Float32Array.from(logs, (log) => 2 ** Math.min(Math.max(log - mean, -MAX_LOG), MAX_LOG));
}
