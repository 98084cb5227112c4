import type { Model } from '../ir/graph.js';

const NAMES: Readonly<Record<string, string>> = {
  float32: 'FP32',
  float16: 'FP16',
  bfloat16: 'BF16',
  float64: 'FP64',
  int8: 'INT8',
  uint8: 'UINT8',
  int4: 'INT4',
  uint4: 'UINT4',
};

/** Types with less of the parameters say nothing of a model: scales, shapes, masks. */
const LEAST_SHARE = 0.01;

/**
 * What a model's weights are stored in, most of them first, and how wanq made it where it did: `INT8 + FP32 (scheme ffn, target ort-cpu)`.
 * Reads no weights.
 */
export function describePrecision({ graph, metadata }: Model): string {
  const elements = new Map<string, number>();
  let total = 0;
  for (const { dtype, elements: count } of graph.initializers.values()) {
    elements.set(dtype, (elements.get(dtype) ?? 0) + count);
    total += count;
  }
  const types = [...elements]
    .filter(([, count]) => count >= LEAST_SHARE * total)
    .sort(([, a], [, b]) => b - a)
    .map(([dtype]) => NAMES[dtype] ?? dtype);
  const made = ['scheme', 'target'].flatMap((key) => {
    const value = metadata.get(`wanq.${key}`);
    return value === undefined ? [] : [`${key} ${value}`];
  });
  return types.join(' + ') + (made.length > 0 ? ` (${made.join(', ')})` : '');
}
