import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf, halfToFloat32 } from '../../../src/numerics/half.js';
import { MersenneTwister, randn } from '../../../src/numerics/rng.js';
import { loadModel } from '../../../src/onnx/load.js';
import {
  JITTER_INPUT,
  type ObservedValue,
  type ObserverOutputs,
  observeActivations,
} from '../../../src/passes/observe-activations.js';
import { runPasses } from '../../../src/passes/pass.js';
import { float32Tensor, fromFloat32, type HostTensor } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { channelExtremes, floats } from '../support/arrays.js';
import { sharedHost } from '../support/environment.js';
import { CPU, inMemory, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();

/** Draws for `rows` samples, with both ends of what a generator gives among them. */
function jitterOf(rows: number): { data: Float64Array; tensor: HostTensor } {
  const generator = new MersenneTwister(7);
  const data = Float64Array.from({ length: rows }, () => generator.uniform());
  data[0] = 0;
  data[rows - 1] = 1 - 2 ** -24;
  return { data, tensor: { dtype: 'float64', dims: [rows], data } };
}

function sampled(values: Float32Array, channels: number, jitter: Float64Array): Float32Array {
  const rows = values.length / channels;
  const k = Math.min(rows, jitter.length);
  const picked = Array.from({ length: k }, (_, i) => Math.floor((i + (jitter[i] as number)) * (rows / k)));
  return Float32Array.from(picked.flatMap((row) => [...values.subarray(row * channels, (row + 1) * channels)]));
}

function expectObserved(
  outputs: Readonly<Record<string, HostTensor>>,
  names: ObserverOutputs | undefined,
  values: Float32Array,
  channels: number,
  jitter: Float64Array | undefined,
): void {
  if (!names) throw new Error('the value has no observer');
  const { min, max } = channelExtremes(values, channels);
  expect(floats(outputs, names.min)).toEqual(min);
  expect(floats(outputs, names.max)).toEqual(max);
  const sample = jitter ? sampled(values, channels, jitter) : values;
  expect(outputs[names.sample]?.dims).toEqual([sample.length / channels, channels]);
  expect(floats(outputs, names.sample)).toEqual(sample);
}

describe.each([13, 17, 18, 20])('a small graph of opset %i', (opset) => {
  const BATCH = 2;
  const ROWS = 9;
  const CHANNELS = 6;
  const x = randn(5, BATCH * ROWS * CHANNELS);

  const observed = (dtype: DataTypeName, tokens: number | 'all') => {
    const outputs: ObserverOutputs[] = [];
    const model = modelOf({
      nodes: [node('Neg', ['x'], 'inner'), node('Abs', ['inner'], 'y')],
      inputs: [value('x', dtype, ['batch', 'rows', CHANNELS])],
      outputs: [value('y', dtype, ['batch', 'rows', CHANNELS])],
      opset,
    });
    const values: ObservedValue[] = ['x', 'inner'].map((name) => ({ value: name, channels: CHANNELS, dtype }));
    const pass = observeActivations({ values, tokens, outputs });
    expect(runPasses(model, [pass]).map(({ did }) => did)).toEqual([
      expect.stringMatching(/^observes \d+ activations?$/),
    ]);
    expect(runPasses(model, [pass])).toEqual([]);
    return { source: inMemory(model), outputs };
  };

  it.each<['float32' | 'float16', number | 'all']>([
    ['float32', 'all'],
    ['float32', 1],
    ['float32', 5],
    ['float32', 18],
    ['float32', 40],
    ['float16', 'all'],
    ['float16', 5],
  ])('reports the extremes and the sampled rows: %s, tokens %s', async (dtype, tokens) => {
    const { source, outputs: names } = observed(dtype, tokens);
    const session = await host.createSession(source, CPU);
    const jitter = tokens === 'all' ? undefined : jitterOf(tokens);
    const { outputs } = await session.run({
      x: fromFloat32(x, [BATCH, ROWS, CHANNELS], dtype),
      ...(jitter && { [JITTER_INPUT]: jitter.tensor }),
    });
    const seen = dtype === 'float16' ? halfToFloat32(float32ToHalf(x)) : x;
    expectObserved(outputs, names[0], seen, CHANNELS, jitter?.data);
    expectObserved(
      outputs,
      names[1],
      seen.map((v) => -v),
      CHANNELS,
      jitter?.data,
    );
  });

  it('makes the range of a channel with infinities or NaN NaN, and shows them in the sample', async () => {
    const { source, outputs: names } = observed('float32', 'all');
    const session = await host.createSession(source, CPU);
    // NaN in the last row: the reductions of onnxruntime pass over it there.
    const broken = Float32Array.of(1, 2, 3, 4, 5, 6, 1, Infinity, 3, -Infinity, 5, Number.NaN);
    const { outputs } = await session.run({ x: float32Tensor(broken, [1, 2, CHANNELS]) });
    const { min, max, sample } = names[0] as ObserverOutputs;
    expect([...floats(outputs, max)]).toEqual([1, Number.NaN, 3, Number.NaN, 5, Number.NaN]);
    expect([...floats(outputs, min)]).toEqual([1, Number.NaN, 3, Number.NaN, 5, Number.NaN]);
    expect(floats(outputs, sample)).toEqual(broken);
  });
});

describe('the micro transformer', async () => {
  const file = path.join(MICRO_PIPELINE, 'transformer', 'model.onnx');
  const feeds = {
    hidden_states: float32Tensor(randn(1, 12 * 2 * 6 * 6), [1, 12, 2, 6, 6]),
    timestep: float32Tensor(Float32Array.of(500), [1]),
    encoder_hidden_states: float32Tensor(randn(2, 8 * 64), [1, 8, 64]),
  };
  const VELOCITY = 'out_sample';

  const open = async (tokens: number | 'all', whole: boolean) => {
    const loaded = await loadModel(file);
    await loaded.close();
    const { model } = loaded;
    const values = new Map(
      findLinears(model.graph)
        .filter(({ kind }) => kind !== 'Conv')
        .map(({ activation, inFeatures, weight: { dtype } }) => [
          activation,
          { value: activation, channels: inFeatures, dtype },
        ]),
    );
    const outputs: ObserverOutputs[] = [];
    runPasses(model, [observeActivations({ values: [...values.values()], tokens, outputs })]);
    if (whole) {
      const inputs = new Set(model.graph.inputs.map(({ name }) => name));
      for (const name of values.keys()) {
        if (!inputs.has(name)) model.graph.outputs.push({ name, dtype: 'float32', dims: null });
      }
    }
    return { session: await host.createSession(inMemory(model), CPU), values: [...values.values()], outputs };
  };

  it.each([4, 11, 18, 'all'] as const)('is observed exactly, tokens %s', async (tokens) => {
    const { session, values, outputs: names } = await open(tokens, true);
    const jitter = tokens === 'all' ? undefined : jitterOf(tokens);
    const { outputs } = await session.run({ ...feeds, ...(jitter && { [JITTER_INPUT]: jitter.tensor }) });
    expect(values.length).toBeGreaterThan(40);
    for (const [i, { value: name, channels }] of values.entries()) {
      expectObserved(
        { ...feeds, ...outputs },
        names[i],
        floats({ ...feeds, ...outputs }, name),
        channels,
        jitter?.data,
      );
    }
  });

  it.each([4, 'all'] as const)('predicts the same bits as without observers, tokens %s', async (tokens) => {
    const { session } = await open(tokens, false);
    const jitter: Record<string, HostTensor> = tokens === 'all' ? {} : { [JITTER_INPUT]: jitterOf(tokens).tensor };
    const plain = await host.createSession({ path: file }, CPU);
    const expected = (await plain.run(feeds)).outputs[VELOCITY];
    expect(expected?.dims).toEqual([1, 12, 2, 6, 6]);
    expect((await session.run({ ...feeds, ...jitter })).outputs[VELOCITY]).toEqual(expected);
  });
});

it('counts rows of any rank, down to a single vector', async () => {
  const outputs: ObserverOutputs[] = [];
  const model = modelOf({
    nodes: [node('MatMul', ['x', 'w'], 'y')],
    initializers: [Tensor.float32('w', [3, 2], [1, 2, 3, 4, 5, 6])],
    inputs: [value('x', 'float32', [3])],
    outputs: [value('y', 'float32', [2])],
  });
  const values: ObservedValue[] = [{ value: 'x', channels: 3, dtype: 'float32' }];
  runPasses(model, [observeActivations({ values, tokens: 4, outputs })]);
  const session = await host.createSession(inMemory(model), CPU);
  const { tensor, data } = jitterOf(4);
  const x = Float32Array.of(0.5, -1, 2);
  const result = await session.run({ x: float32Tensor(x, [3]), [JITTER_INPUT]: tensor });
  expectObserved(result.outputs, outputs[0], x, 3, data);
});
