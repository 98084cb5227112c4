import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { blockBoundaries } from '../../../src/analyze/boundaries.js';
import { type Observation, openTransformer } from '../../../src/calibrate/observed-transformer.js';
import { observedOutputs, observedValues } from '../../../src/calibrate/observed-values.js';
import { randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import { JITTER_INPUT } from '../../../src/passes/observe-activations.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import type { HostTensor } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { sharedHost } from '../support/environment.js';

const TOKENS = 7;
const shape = { channels: 12, frames: 2, height: 6, width: 4 };
const host = sharedHost();
const load = () => loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
const loaded = await load();
const boundaries = blockBoundaries(loaded.model.graph);
const values = observedValues(loaded);
const magnitudes = observedOutputs(loaded);
const jitter: HostTensor = { dtype: 'float64', dims: [TOKENS], data: new Float64Array(TOKENS).fill(0.4) };
const calls = [1, 2].map((seed) => ({
  input: {
    shape,
    latents: randn(seed, 12 * 2 * 6 * 4),
    timestep: 400,
    text: { length: 5, features: 64, data: randn(seed + 10, 5 * 64) },
  },
  feeds: { [JITTER_INPUT]: jitter },
}));

/** All that one step of a transformer shows, by call and activation. */
async function step(cuts: typeof boundaries) {
  const face = { signature: transformerSignature(loaded.model.graph, loaded.path), patch: [2, 2] as const };
  const transformer = await openTransformer(
    host,
    { loaded: await load(), face, values, magnitudes, tokens: TOKENS },
    ['cpu'],
    cuts,
  );
  const seen = new Map<string, Observation>();
  const largest = new Map<string, number>();
  const velocities = await transformer.run(calls, {
    activation: (call, activation, observation) => {
      seen.set(`${call}/${activation}`, observation);
    },
    output: (call, output, magnitude) => {
      largest.set(`${call}/${output}`, magnitude);
    },
  });
  return { velocities, seen, largest, segments: transformer.segments };
}

describe('a transformer cut at block boundaries', async () => {
  const whole = await step([]);

  it('shows every activation of every call', () => {
    expect(whole.segments).toBe(1);
    expect(whole.seen.size).toBe(calls.length * values.length);
    expect(values).toHaveLength(43);
  });

  it('shows the largest magnitude of every output', () => {
    expect(whole.largest.size).toBe(calls.length * magnitudes.length);
    // The last linear's output is the velocity but for its bias and its order.
    const last = magnitudes.length - 1;
    const velocity = whole.velocities[0] as Float32Array;
    const expected = velocity.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    expect(whole.largest.get(`0/${last}`)).toBeGreaterThan(0.5 * expected);
    expect(whole.largest.get(`0/${last}`)).toBeLessThan(2 * expected);
  });

  it.each([
    ['everywhere', boundaries],
    ['once', boundaries.slice(3, 4)],
    ['around all blocks', [boundaries[0], boundaries.at(-1)] as typeof boundaries],
  ])('%s computes and shows the same bits as in one piece', async (_, cuts) => {
    const cut = await step(cuts);
    expect(cut.segments).toBe(cuts.length + 1);
    expect(cut.velocities).toEqual(whole.velocities);
    expect(new Map([...cut.seen].sort())).toEqual(new Map([...whole.seen].sort()));
    expect(new Map([...cut.largest].sort())).toEqual(new Map([...whole.largest].sort()));
  });
});
