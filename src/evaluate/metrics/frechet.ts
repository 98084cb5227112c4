import { EigenvalueDecomposition, Matrix } from 'ml-matrix';

/** Mean and unbiased covariance of feature vectors. */
export interface FeatureStatistics {
  readonly count: number;
  readonly mean: readonly number[];
  /** `[dim][dim]` */
  readonly covariance: readonly (readonly number[])[];
}

/** @param features at least two vectors of one length */
export function featureStatistics(features: readonly ArrayLike<number>[]): FeatureStatistics {
  const dim = features[0]?.length ?? 0;
  const count = features.length;
  const mean = Array.from({ length: dim }, (_, i) => features.reduce((sum, f) => sum + (f[i] as number), 0) / count);
  const covariance = Array.from({ length: dim }, (_, i) =>
    Array.from({ length: dim }, (_, j) => {
      let sum = 0;
      for (const f of features)
        sum += ((f[i] as number) - (mean[i] as number)) * ((f[j] as number) - (mean[j] as number));
      return sum / (count - 1);
    }),
  );
  return { count, mean, covariance };
}

/**
 * Squared Frechet distance of two Gaussians (Heusel et al. 2017; over video features: FVD, Unterthiner et al. 2018):
 * |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
 *
 * The trace of the root is taken as the sum of square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric; negative ones, from
 * rounding of a singular covariance, count as 0.
 */
export function frechetDistance(a: FeatureStatistics, b: FeatureStatistics): number {
  const c1 = new Matrix(a.covariance.map((row) => [...row]));
  const c2 = new Matrix(b.covariance.map((row) => [...row]));
  const root = symmetricRoot(c1);
  const inner = root.mmul(c2).mmul(root);
  const symmetric = inner.clone().add(inner.transpose()).mul(0.5);
  const traceOfRoot = new EigenvalueDecomposition(symmetric, { assumeSymmetric: true }).realEigenvalues.reduce(
    (sum, value) => sum + Math.sqrt(Math.max(value, 0)),
    0,
  );
  const meanPart = a.mean.reduce((sum, m, i) => sum + (m - (b.mean[i] as number)) ** 2, 0);
  return meanPart + c1.trace() + c2.trace() - 2 * traceOfRoot;
}

function symmetricRoot(matrix: Matrix): Matrix {
  const { eigenvectorMatrix: vectors, realEigenvalues } = new EigenvalueDecomposition(matrix, {
    assumeSymmetric: true,
  });
  const roots = Matrix.diag(realEigenvalues.map((value) => Math.sqrt(Math.max(value, 0))));
  return vectors.mmul(roots).mmul(vectors.transpose());
}
