import type { Linear } from './linears.js';
import { blockCount } from './select.js';

/** Multiply-adds of one transformer forward, counted as 2 operations each. */
export interface ForwardFlops {
  readonly linears: number;
  /** Both products of self and cross attention. */
  readonly attention: number;
  /** Linears that are quantized. */
  readonly quantized: number;
  /** Most that a forward can speed up if INT8 products run twice as fast and all else stays (Amdahl). */
  readonly bound: number;
}

/**
 * @param tokens video tokens of a forward
 * @param textTokens length of the text sequence
 * @param quantized output names of the linears that run in INT8
 */
export function forwardFlops(
  linears: readonly Linear[],
  tokens: number,
  textTokens: number,
  quantized: ReadonlySet<string>,
): ForwardFlops {
  let all = 0;
  let int8 = 0;
  let width = 0;
  for (const { role, output, inFeatures, outFeatures } of linears) {
    const rows = rowsOf(role, tokens, textTokens);
    const flops = 2 * rows * inFeatures * outFeatures;
    all += flops;
    if (quantized.has(output)) int8 += flops;
    if (role.endsWith('.attn1.out')) width = inFeatures;
  }
  const attention = blockCount(linears) * 4 * width * tokens * (tokens + textTokens);
  return { linears: all, attention, quantized: int8, bound: (all + attention) / (all + attention - int8 / 2) };
}

function rowsOf(role: string, tokens: number, textTokens: number): number {
  if (role.startsWith('time_')) return 1;
  if (role.startsWith('text_') || /\.attn2\.(k|v|kv)$/.test(role)) return textTokens;
  return tokens;
}
