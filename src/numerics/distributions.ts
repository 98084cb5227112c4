/**
 * Quantile of the standard normal distribution, to 1e-11 where neither tail is below 1e-4.
 * @param p in (0, 1)
 */
export function normalQuantile(p: number): number {
  return quantile(p, normalHalf, (x) => Math.exp(-x * x * 0.5) / Math.sqrt(2 * Math.PI));
}

/**
 * Quantile of Student's t distribution, to 1e-11 where neither tail is below 1e-4.
 * @param p in (0, 1)
 * @param degrees a whole number, at least 1
 */
export function studentQuantile(p: number, degrees: number): number {
  const peak = studentPeak(degrees);
  const density = (t: number): number => peak * (1 + (t * t) / degrees) ** (-(degrees + 1) / 2);
  return quantile(p, (t) => studentHalf(t, degrees), density);
}

/**
 * Newton's method on a distribution that is symmetric about 0. It starts at 0 and never oversteps, as the distribution function is concave
 * above.
 * @param half probability of [0, x]
 */
function quantile(p: number, half: (x: number) => number, density: (x: number) => number): number {
  if (!(p > 0 && p < 1)) throw new RangeError(`no quantile of probability ${p}`);
  const target = Math.abs(p - 0.5);
  let x = 0;
  for (;;) {
    const next = x + (target - half(x)) / density(x);
    if (!(next > x + 1e-15 * x)) return p < 0.5 ? -x : x;
    x = next;
  }
}

/** P(0 <= Z <= x): phi(x) (x + x^3 / 3 + x^5 / 15 + ...) (Marsaglia 2004). */
function normalHalf(x: number): number {
  let term = x;
  let sum = x;
  for (let k = 3; term > 1e-17 * sum; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return (sum * Math.exp(-x * x * 0.5)) / Math.sqrt(2 * Math.PI);
}

/** P(0 <= T <= t) for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4). */
function studentHalf(t: number, degrees: number): number {
  const angle = Math.atan2(t, Math.sqrt(degrees));
  const cosine = Math.cos(angle);
  const odd = degrees % 2 === 1;
  let term = odd ? cosine : 1;
  let sum = degrees === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k <= degrees - 2; k += 2) {
    term *= (cosine * cosine * (k - 1)) / k;
    sum += term;
  }
  return odd ? (angle + Math.sin(angle) * sum) / Math.PI : (Math.sin(angle) * sum) / 2;
}

/** Density at 0: gamma((v + 1) / 2) / (sqrt(v pi) gamma(v / 2)). */
function studentPeak(degrees: number): number {
  const odd = degrees % 2 === 1;
  let ratio = odd ? 1 / Math.sqrt(Math.PI) : Math.sqrt(Math.PI) / 2;
  for (let v = odd ? 1 : 2; v < degrees; v += 2) ratio *= (v + 1) / v;
  return ratio / Math.sqrt(degrees * Math.PI);
}
