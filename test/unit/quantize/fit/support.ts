import { findLinears, type Linear } from '../../../../src/analyze/linears.js';
import { int } from '../../../../src/ir/attribute.js';
import type { Node } from '../../../../src/ir/graph.js';
import { Tensor } from '../../../../src/ir/tensor.js';
import { randn } from '../../../../src/numerics/rng.js';
import { graph, node } from '../../helpers/graphs.js';

/** A matrix product with its weight, `[in, out]` in row-major order. */
export interface Weight {
  readonly values: Float32Array;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

export function randomWeight(seed: number, inFeatures: number, outFeatures: number): Weight {
  return { values: randn(seed, inFeatures * outFeatures), inFeatures, outFeatures };
}

export function transposed({ values, inFeatures, outFeatures }: Weight): Float32Array {
  return values.map((_, i) => values[(i % inFeatures) * outFeatures + Math.floor(i / inFeatures)] as number);
}

/** Linears that read one activation, `x`, stored as `[in, out]`, or as `[out, in]` where they are to be `flipped`. */
export function linearsOf(weights: readonly Weight[], { flipped = false } = {}): Linear[] {
  const stored = weights.map((weight, i) => {
    const { inFeatures, outFeatures, values } = weight;
    return flipped
      ? Tensor.float32(`w${i}`, [outFeatures, inFeatures], transposed(weight))
      : Tensor.float32(`w${i}`, [inFeatures, outFeatures], values);
  });
  return linearsOn(stored, flipped);
}

/** Linears over tensors as they are stored. */
export function linearsOn(stored: readonly Tensor[], flipped = false): Linear[] {
  const nodes = stored.map(
    ({ name }): Node =>
      flipped ? node('Gemm', ['x', name], `y_${name}`, [int('transB', 1)]) : node('MatMul', ['x', name], `y_${name}`),
  );
  return findLinears(graph({ nodes, initializers: [...stored], inputs: ['x'] }));
}

/** `[rows, in]` by a weight. @returns `[rows, out]` */
export function product(rows: ArrayLike<number>, { values, inFeatures, outFeatures }: Weight): Float64Array {
  const result = new Float64Array((rows.length / inFeatures) * outFeatures);
  for (let i = 0; i < rows.length; i++) {
    const [row, k] = [Math.floor(i / inFeatures), i % inFeatures];
    for (let o = 0; o < outFeatures; o++) {
      const at = row * outFeatures + o;
      result[at] = (result[at] as number) + (rows[i] as number) * (values[k * outFeatures + o] as number);
    }
  }
  return result;
}
