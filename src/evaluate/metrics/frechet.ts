import { EigenvalueDecomposition, Matrix } from 'ml-matrix';

/** Mean and unbiased covariance of feature vectors. */
export interface FeatureStatistics {
  readonly count: number;
  readonly mean: Float64Array;
  /** `[dim, dim]` */
  readonly covariance: Float64Array;
}

/** @param features at least two vectors of one length */
export function featureStatistics(features: readonly ArrayLike<number>[]): FeatureStatistics {
  const dim = features[0]?.length ?? 0;
  const count = features.length;
  const mean = new Float64Array(dim);
  for (const f of features) for (let i = 0; i < dim; i++) mean[i] = (mean[i] as number) + (f[i] as number) / count;
  const covariance = new Float64Array(dim * dim);
  const centred = new Float64Array(dim);
  for (const f of features) {
    for (let i = 0; i < dim; i++) centred[i] = (f[i] as number) - (mean[i] as number);
    for (let i = 0; i < dim; i++) {
      const scaled = (centred[i] as number) / (count - 1);
      const row = i * dim;
      for (let j = i; j < dim; j++)
        covariance[row + j] = (covariance[row + j] as number) + scaled * (centred[j] as number);
    }
  }
  for (let i = 0; i < dim; i++) {
    for (let j = 0; j < i; j++) covariance[i * dim + j] = covariance[j * dim + i] as number;
  }
  return { count, mean, covariance };
}

/** A Frechet distance and what each vector of the set weighs in it. */
export interface FrechetInfluences {
  readonly distance: number;
  /** Derivative of the distance by each vector's share of the set, times their count (infinitesimal jackknife); they sum to 0. */
  readonly influences: Float64Array;
}

/** Below this share of the largest eigenvalue, one of a covariance counts as 0 where it is inverted. */
const RANK_TOLERANCE = 1e-12;

/**
 * A set that many others are measured against: the root of its covariance is taken once.
 *
 * The squared Frechet distance of two Gaussians (Heusel et al. 2017; over video features: FVD, Unterthiner et al. 2018) is
 * |m - m1|^2 + tr(C + C1 - 2 (C1 C)^(1/2)). The trace of the root is taken as the sum of square roots of the eigenvalues of
 * M = C1^(1/2) C C1^(1/2), which is symmetric; negative ones, from rounding of a singular covariance, count as 0.
 */
export class FrechetTruth {
  readonly #truth: FeatureStatistics;
  readonly #root: Matrix;

  constructor(truth: FeatureStatistics) {
    this.#truth = truth;
    const { eigenvectorMatrix: vectors, realEigenvalues: values } = symmetricEigen(square(truth.covariance));
    this.#root = scaleColumns(vectors, values.map(clampedRoot)).mmul(vectors.transpose());
  }

  distance(set: FeatureStatistics): number {
    return this.#distance(set, this.#product(set).realEigenvalues);
  }

  /**
   * The distance of a set with its derivative: d FVD = 2 (m - m1) dm + tr((I - A) dC), A = C1^(1/2) M^(-1/2) C1^(1/2), the inverse taken over
   * what the set spans.
   */
  influences(features: readonly ArrayLike<number>[]): FrechetInfluences {
    const set = featureStatistics(features);
    const { eigenvectorMatrix: vectors, realEigenvalues: values } = this.#product(set);
    const least = RANK_TOLERANCE * Math.max(...values);
    const inverse = values.map((value) => (value > least ? value ** -0.25 : 0));
    const centred = new Matrix(features.map((f) => set.mean.map((m, i) => (f[i] as number) - m)));
    // x^T A x = |x^T P|^2
    const projected = centred.mmul(this.#root.mmul(scaleColumns(vectors, inverse)));
    const shift = set.mean.map((m, i) => m - (this.#truth.mean[i] as number));
    const unbiased = set.count / (set.count - 1);
    const raw = Float64Array.from(features, (_, k) => {
      const x = centred.getRow(k);
      const along = x.reduce((sum, value, i) => sum + value * (shift[i] as number), 0);
      return 2 * along + unbiased * (squaredNorm(x) - squaredNorm(projected.getRow(k)));
    });
    const mean = raw.reduce((a, b) => a + b, 0) / raw.length;
    return { distance: this.#distance(set, values), influences: raw.map((value) => value - mean) };
  }

  #product({ covariance }: FeatureStatistics): Eigen {
    return symmetricEigen(this.#root.mmul(square(covariance)).mmul(this.#root));
  }

  #distance({ mean, covariance }: FeatureStatistics, eigenvalues: readonly number[]): number {
    const { mean: center, covariance: spread } = this.#truth;
    let distance = 0;
    for (let i = 0; i < mean.length; i++) {
      const diagonal = i * (mean.length + 1);
      distance += ((mean[i] as number) - (center[i] as number)) ** 2;
      distance += (covariance[diagonal] as number) + (spread[diagonal] as number);
      distance -= 2 * clampedRoot(eigenvalues[i] as number);
    }
    return distance;
  }
}

/** {@link FrechetTruth} for a single distance. */
export function frechetDistance(a: FeatureStatistics, b: FeatureStatistics): number {
  return new FrechetTruth(a).distance(b);
}

function square(values: Float64Array): Matrix {
  const dim = Math.sqrt(values.length);
  return Matrix.from1DArray(dim, dim, values);
}

type Eigen = Pick<EigenvalueDecomposition, 'eigenvectorMatrix' | 'realEigenvalues'>;

function symmetricEigen(matrix: Matrix): Eigen {
  // The iteration does not end well on these.
  if (!matrix.to1DArray().every(Number.isFinite)) {
    const { rows } = matrix;
    const nowhere = Matrix.zeros(rows, rows).fill(Number.NaN);
    return { eigenvectorMatrix: nowhere, realEigenvalues: new Array<number>(rows).fill(Number.NaN) };
  }
  const symmetric = matrix.transpose().add(matrix).mul(0.5);
  return new EigenvalueDecomposition(symmetric, { assumeSymmetric: true });
}

function scaleColumns(matrix: Matrix, factors: readonly number[]): Matrix {
  return matrix.clone().mulRowVector([...factors]);
}

function clampedRoot(value: number): number {
  return Math.sqrt(Math.max(value, 0));
}

function squaredNorm(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}
