/** E[x x^T] over tokens, as rows of `[channels, channels]`. @param tokens `[rows, channels]` */
export function secondMoments(tokens: Float32Array, channels: number): Float64Array[] {
  const moments = Array.from({ length: channels }, () => new Float64Array(channels));
  const share = channels / tokens.length;
  for (let start = 0; start < tokens.length; start += channels) {
    for (let k = 0; k < channels; k++) {
      const row = moments[k] as Float64Array;
      const x = (tokens[start + k] as number) * share;
      for (let j = 0; j <= k; j++) row[j] = (row[j] as number) + x * (tokens[start + j] as number);
    }
  }
  for (let k = 0; k < channels; k++) {
    for (let j = 0; j < k; j++) (moments[j] as Float64Array)[k] = moments[k]?.[j] as number;
  }
  return moments;
}

/** E[x] over tokens, `[channels]`. @param tokens `[rows, channels]` */
export function means(tokens: Float32Array, channels: number): Float64Array {
  const sums = new Float64Array(channels);
  tokens.forEach((x, i) => {
    sums[i % channels] = (sums[i % channels] as number) + x;
  });
  return sums.map((sum) => (sum * channels) / tokens.length);
}

/** E[x^2] over tokens, `[channels]`. @param tokens `[rows, channels]` */
export function meanSquares(tokens: Float32Array, channels: number): Float64Array {
  return means(
    tokens.map((x) => x * x),
    channels,
  );
}
