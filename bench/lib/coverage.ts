import { FrechetTruth, featureStatistics } from '../../src/evaluate/metrics/frechet.js';
import { frechetGrowth } from '../../src/evaluate/metrics/frechet-growth.js';
import { bootstrapInterval } from '../../src/numerics/bootstrap.js';
import { deriveSeed, MersenneTwister } from '../../src/numerics/rng.js';
import { mean } from '../../src/numerics/stats.js';

/** How often an interval held the truth over simulated data sets, and its mean width. */
export interface Coverage {
  readonly covered: number;
  readonly width: number;
}

class Normals {
  readonly #uniform: MersenneTwister;

  constructor(seed: number) {
    this.#uniform = new MersenneTwister(seed);
  }

  next(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.#uniform.uniform()));
    return radius * Math.cos(2 * Math.PI * this.#uniform.uniform());
  }
}

/** Distributions of a figure over prompts, with their means. */
export const DISTRIBUTIONS = {
  normal: { mean: 0, draw: (z: Normals) => z.next() },
  'lognormal, sigma 0.5': { mean: Math.exp(0.125), draw: (z: Normals) => Math.exp(0.5 * z.next()) },
  'lognormal, sigma 1': { mean: Math.exp(0.5), draw: (z: Normals) => Math.exp(z.next()) },
  't, 3 degrees of freedom': {
    mean: 0,
    draw: (z: Normals) => z.next() / Math.sqrt((z.next() ** 2 + z.next() ** 2 + z.next() ** 2) / 3),
  },
} as const;

export type Distribution = keyof typeof DISTRIBUTIONS;

/** Coverage of 95 % intervals of the mean of n figures. */
export function meanCoverage(distribution: Distribution, n: number, sets: number, resamples = 2000): Coverage {
  const { draw, mean: truth } = DISTRIBUTIONS[distribution];
  return coverage(sets, truth, (set) => {
    const normals = new Normals(deriveSeed(1, set));
    const values = Float64Array.from({ length: n }, () => draw(normals));
    const meanOf = (indices: Int32Array): number => {
      let sum = 0;
      for (const i of indices) sum += values[i] as number;
      return sum / indices.length;
    };
    return bootstrapInterval(n, meanOf, { seed: set, resamples });
  });
}

export interface GrowthCase {
  readonly dim: number;
  readonly prompts: number;
  readonly seedsPerPrompt: number;
  /** Features are lognormal (sigma 0.6) instead of normal. */
  readonly skewed: boolean;
  /** How far the quantized model is off; the growth that comes of it is some five times that. */
  readonly damage: number;
}

/**
 * Coverage of 95 % intervals of the growth of the Frechet distance. The truth is the mean growth over other sets of the same size, since the
 * distance of few videos is too large by itself.
 */
export function growthCoverage(one: GrowthCase, sets: number, setsOfTruth: number): Coverage & { growth: number } {
  const { dim, prompts, seedsPerPrompt } = one;
  const covariance = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) covariance[i * (dim + 1)] = 1 / (i + 1);
  const truth = new FrechetTruth({ count: Number.POSITIVE_INFINITY, mean: new Float64Array(dim), covariance });
  const ofPrompt = Array.from({ length: prompts * seedsPerPrompt }, (_, i) => Math.floor(i / seedsPerPrompt));
  const growth = mean(
    Array.from({ length: setsOfTruth }, (_, set) => {
      const { reference, quantized } = pairedFeatures(one, deriveSeed(2, set));
      return truth.distance(featureStatistics(quantized)) / truth.distance(featureStatistics(reference)) - 1;
    }),
  );
  const made = coverage(sets, growth, (set) => {
    return frechetGrowth(truth, pairedFeatures(one, deriveSeed(3, set)), ofPrompt, { seed: set }).interval;
  });
  return { ...made, growth };
}

/** Features of a reference model that is off the truth and of a quantized one that is off the reference; seeds of a prompt are alike. */
export function pairedFeatures({ dim, prompts, seedsPerPrompt, skewed, damage }: GrowthCase, seed: number) {
  const normals = new Normals(seed);
  const shape = (z: number): number =>
    skewed ? (Math.exp(0.6 * z) - Math.exp(0.18)) / Math.sqrt((Math.exp(0.36) - 1) * Math.exp(0.36)) : z;
  const reference: Float64Array[] = [];
  const quantized: Float64Array[] = [];
  for (let prompt = 0; prompt < prompts; prompt++) {
    const shared = Float64Array.from({ length: dim }, () => normals.next());
    for (let s = 0; s < seedsPerPrompt; s++) {
      const made = shared.map((z, i) => {
        const own = shape(0.7 * z + Math.sqrt(0.51) * normals.next());
        return (1.15 * own + 0.25) / Math.sqrt(i + 1);
      });
      reference.push(made);
      quantized.push(
        made.map((x, i) => {
          const noise = 0.6 * damage + 0.25 * Math.sqrt(damage) * normals.next();
          return x * (1 + damage) + noise / Math.sqrt(i + 1);
        }),
      );
    }
  }
  return { reference, quantized };
}

function coverage(
  sets: number,
  truth: number,
  intervalOf: (set: number) => { readonly low: number; readonly high: number } | undefined,
): Coverage {
  let [covered, width] = [0, 0];
  for (let set = 0; set < sets; set++) {
    const interval = intervalOf(set);
    if (!interval) throw new Error('no interval was given');
    if (interval.low <= truth && truth <= interval.high) covered++;
    width += interval.high - interval.low;
  }
  return { covered: covered / sets, width: width / sets };
}
