/** Differences of two signals of the same length, as sums: combine parts by adding, then read the figures. */
export interface Difference {
  /** Sum of squares of the reference. */
  readonly signal: number;
  /** Sum of squared differences. */
  readonly noise: number;
  /** Sum of squares of the other signal. */
  readonly other: number;
  /** Sum of products. */
  readonly product: number;
}

export function difference(reference: ArrayLike<number>, other: ArrayLike<number>): Difference {
  if (reference.length !== other.length) throw new RangeError('signals differ in length');
  let signal = 0;
  let noise = 0;
  let power = 0;
  let product = 0;
  for (let i = 0; i < reference.length; i++) {
    const a = reference[i] as number;
    const b = other[i] as number;
    signal += a * a;
    power += b * b;
    product += a * b;
    noise += (a - b) ** 2;
  }
  return { signal, noise, other: power, product };
}

/** The difference of two signals laid end to end. */
export function addDifferences(a: Difference, b: Difference): Difference {
  return {
    signal: a.signal + b.signal,
    noise: a.noise + b.noise,
    other: a.other + b.other,
    product: a.product + b.product,
  };
}

/** Signal to quantization noise ratio, dB; Infinity for equal signals. */
export function sqnr({ signal, noise }: Difference): number {
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}

/** ||reference - other|| / ||reference||. */
export function relativeError({ signal, noise }: Difference): number {
  return noise === 0 ? 0 : Math.sqrt(noise / signal);
}

export function cosine({ signal, other, product }: Difference): number {
  return product / Math.sqrt(signal * other);
}

/** Arithmetic mean; NaN of nothing. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Middle value (of an even count: the mean of the two middle ones); NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}
