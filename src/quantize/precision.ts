/**
 * What a linear computes with.
 * - `int8`: INT8 weights, one scale for each output channel, by INT8 activations with one static scale a tensor.
 * - `int8-dynamic`: the same weights by symmetric INT8 activations with one scale a token, which the graph computes of the token.
 * - `int8-weights`: the same weights, dequantized; the product is one of floats.
 * - `float16`: stored in it; computed in it where the target has kernels for it, else cast back where it is read.
 * - `keep`: as it is.
 */
export const PRECISIONS = ['int8', 'int8-dynamic', 'int8-weights', 'float16', 'keep'] as const;

export type Precision = (typeof PRECISIONS)[number];

/** Precisions with weights in INT8. */
export type Int8Precision = Extract<Precision, `int8${string}`>;

export function isInt8(precision: Precision): precision is Int8Precision {
  return precision.startsWith('int8');
}
