/**
 * Kernel distance of two sets of feature vectors: the squared maximum mean discrepancy with the polynomial kernel (x . y / dim + 1)^3, by its
 * unbiased estimator over all pairs (Binkowski et al. 2018; over video features: KVD, Unterthiner et al. 2018). Needs no more vectors than
 * dimensions, unlike the Frechet distance. Being unbiased, it is negative about as often as positive for sets of one distribution.
 *
 * @param a, b at least two vectors each, of one length
 * @throws RangeError for fewer, or where lengths differ
 */
export function kernelDistance(a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]): number {
  const dim = a[0]?.length ?? 0;
  if (a.length < 2 || b.length < 2) throw new RangeError('a kernel distance needs two vectors in each set');
  if ([...a, ...b].some((vector) => vector.length !== dim)) throw new RangeError('feature vectors differ in length');
  const [x, y] = [flat(a, dim), flat(b, dim)];
  const within = withinMean(x, a.length, dim) + withinMean(y, b.length, dim);
  let across = 0;
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < b.length; j++) across += kernel(x, i * dim, y, j * dim, dim);
  }
  return within - (2 * across) / (a.length * b.length);
}

/** Mean of the kernel over all pairs of different vectors of one set. */
function withinMean(values: Float64Array, count: number, dim: number): number {
  let sum = 0;
  for (let i = 1; i < count; i++) {
    for (let j = 0; j < i; j++) sum += kernel(values, i * dim, values, j * dim, dim);
  }
  return (2 * sum) / (count * (count - 1));
}

function kernel(x: Float64Array, i: number, y: Float64Array, j: number, dim: number): number {
  let product = 0;
  for (let k = 0; k < dim; k++) product += (x[i + k] as number) * (y[j + k] as number);
  return (product / dim + 1) ** 3;
}

function flat(vectors: readonly ArrayLike<number>[], dim: number): Float64Array {
  const values = new Float64Array(vectors.length * dim);
  for (const [i, vector] of vectors.entries()) values.set(vector, i * dim);
  return values;
}
