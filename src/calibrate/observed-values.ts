import { findLinears } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import type { LoadedModel } from '../onnx/load.js';
import type { ObservedValue } from '../passes/observe-activations.js';

const SAMPLE_BUDGET_BYTES = 16 * 2 ** 20;

/** One value for each distinct input of a MatMul or Gemm; q, k and v share theirs. Conv inputs have no token rows to sample. */
export function observedValues(loaded: LoadedModel): ObservedValue[] {
  const values = new Map<string, ObservedValue>();
  for (const { kind, activation, inFeatures, computeType } of findLinears(loaded.model.graph)) {
    if (kind === 'Conv') continue;
    values.set(activation, { value: activation, channels: inFeatures, dtype: computeType });
  }
  if (values.size === 0) {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(loaded.path)} has no MatMul or Gemm with a constant weight`, {
      hint: 'wanq quantizes linear layers; is this the transformer?',
    });
  }
  return [...values.values()];
}

/** What each linear makes, without its bias: what must fit into FP16 where a runtime computes in it. */
export function observedOutputs({ model }: LoadedModel): string[] {
  return findLinears(model.graph).map(({ output }) => output);
}

/** Rows to sample a forward; `auto` keeps the samples of a forward below 16 MiB. */
export function tokensPerForward(tokens: number | 'all' | 'auto', observed: readonly ObservedValue[]): number | 'all' {
  if (tokens !== 'auto') return tokens;
  const bytesPerToken = observed.reduce((sum, { channels }) => sum + 4 * channels, 0);
  return Math.max(1, Math.floor(SAMPLE_BUDGET_BYTES / bytesPerToken));
}
