import { normalQuantile, studentQuantile } from './distributions.js';
import { MersenneTwister } from './rng.js';

/** Both ends of a confidence interval. */
export interface Interval {
  readonly low: number;
  readonly high: number;
  /** Share of such intervals that hold the truth, as aimed at. */
  readonly level: number;
}

export interface BootstrapOptions {
  readonly level?: number;
  readonly resamples?: number;
  readonly seed?: number;
}

/**
 * Confidence interval of a statistic, by resampling units that are independent of each other (prompts, with all that hangs on them, so that
 * pairs stay pairs). Deterministic, and the same in whatever order the units come.
 *
 * The ends are the bootstrap's percentiles, stretched away from the estimate by t(n - 1) / z x sqrt(n / (n - 1)): percentiles alone are as
 * narrow as if n units' spread were known, and for few units cannot reach beyond them, however far into the tail they are taken.
 * test/unit/numerics/bootstrap.test.ts holds the coverage, bench/intervals.ts prints it.
 *
 * @param units how many there are
 * @param statistic of the units at these positions, which may repeat; must not depend on their order, and must not keep the array
 * @returns undefined for fewer than two units or an estimate that is not finite
 */
export function bootstrapInterval(
  units: number,
  statistic: (indices: Int32Array) => number,
  { level = 0.95, resamples = 2000, seed = 0 }: BootstrapOptions = {},
): Interval | undefined {
  const ordered = canonicalOrder(units, statistic);
  const estimate = statistic(ordered);
  if (units < 2 || !Number.isFinite(estimate)) return undefined;
  const random = new MersenneTwister(seed);
  const indices = new Int32Array(units);
  const values = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    for (let i = 0; i < units; i++) indices[i] = ordered[Math.floor(random.uniform() * units)] as number;
    values[r] = statistic(indices);
  }
  values.sort();
  const tail = (1 - level) / 2;
  const stretch = (studentQuantile(1 - tail, units - 1) / normalQuantile(1 - tail)) * Math.sqrt(units / (units - 1));
  const end = (p: number): number => estimate + stretch * (percentile(values, p) - estimate);
  return { low: end(tail), high: end(1 - tail), level };
}

/** A value, and the unit that it hangs on. */
export interface UnitValue {
  readonly unit: number;
  readonly value: number;
}

/** The interval of the mean of all values; those of a unit are resampled together. @returns undefined as {@link bootstrapInterval} */
export function meanInterval(
  values: readonly UnitValue[],
  options?: BootstrapOptions,
): (Interval & { readonly units: number }) | undefined {
  const sums = new Map<number, { sum: number; count: number }>();
  for (const { unit, value } of values) {
    const { sum, count } = sums.get(unit) ?? { sum: 0, count: 0 };
    sums.set(unit, { sum: sum + value, count: count + 1 });
  }
  const units = [...sums.values()];
  const interval = bootstrapInterval(
    units.length,
    (indices) => {
      let [sum, count] = [0, 0];
      for (const i of indices) {
        sum += units[i]?.sum as number;
        count += units[i]?.count as number;
      }
      return sum / count;
    },
    options,
  );
  return interval && { ...interval, units: units.length };
}

/** Units sorted by what each is alone, so that a seed draws the same ones whatever their order was. */
function canonicalOrder(units: number, statistic: (indices: Int32Array) => number): Int32Array {
  const alone = Float64Array.from({ length: units }, (_, i) => statistic(Int32Array.of(i)));
  return Int32Array.from(alone.keys()).sort((i, j) => {
    const [a, b] = [alone[i] as number, alone[j] as number];
    return a < b ? -1 : a > b ? 1 : 0;
  });
}

/** Between the neighbouring order statistics of position p (n + 1). */
function percentile(sorted: Float64Array, p: number): number {
  const position = Math.min(Math.max(p * (sorted.length + 1) - 1, 0), sorted.length - 1);
  const at = Math.floor(position);
  const [below, above] = [sorted[at] as number, sorted[Math.min(at + 1, sorted.length - 1)] as number];
  return below === above ? below : below + (position - at) * (above - below);
}
