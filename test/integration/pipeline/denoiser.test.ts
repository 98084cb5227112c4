import { describe, expect, it } from 'vitest';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Dim } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf, halfToFloat32 } from '../../../src/numerics/half.js';
import { randn } from '../../../src/numerics/rng.js';
import {
  Denoiser,
  type DenoiserInput,
  type TransformerFace,
  transformerFeeds,
  truncatesTimesteps,
} from '../../../src/pipeline/denoise.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import type { Session } from '../../../src/runtime/host.js';
import type { HostTensor } from '../../../src/runtime/tensor.js';
import { sharedHost } from '../support/environment.js';
import { CPU, cast, inMemory, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();
const shape = { channels: 2, frames: 3, height: 4, width: 6 };
/** 3 frames of 2 x 3 patches. */
const TOKENS = 18;
const input: DenoiserInput = {
  latents: randn(1, 2 * 3 * 4 * 6),
  shape,
  timestep: 937.5,
  text: { data: randn(2, 20), length: 4, features: 5 },
};

interface Types {
  latents?: DataTypeName;
  timestep?: DataTypeName;
  text?: DataTypeName;
  timestepDims?: readonly Dim[] | null;
}

/** velocity = latents x factor, and what arrives at the inputs as further outputs. */
async function open(types: Types = {}, factor = -2): Promise<{ session: Session; face: TransformerFace }> {
  const { latents = 'float32', timestep = 'float32', text = 'float32', timestepDims = ['batch'] } = types;
  const model = modelOf({
    nodes: [
      cast('hidden_states', 'wide', 'float32'),
      node('Mul', ['wide', 'factor'], 'product'),
      cast('product', 'velocity', latents),
      node('Identity', ['timestep'], 'timestep_seen'),
      node('Identity', ['encoder_hidden_states'], 'text_seen'),
    ],
    initializers: [Tensor.float32('factor', [], [factor])],
    inputs: [
      value('hidden_states', latents, ['batch', 2, 'frames', 'height', 'width']),
      { name: 'timestep', dtype: timestep, dims: timestepDims },
      value('encoder_hidden_states', text, ['batch', 'length', 5]),
    ],
    outputs: [
      value('velocity', latents, ['batch', 2, 'frames', 'height', 'width']),
      { name: 'timestep_seen', dtype: timestep, dims: null },
      value('text_seen', text, ['batch', 'length', 5]),
    ],
  });
  const session = await host.createSession(inMemory(model), CPU);
  return { session, face: { signature: transformerSignature(model.graph, 'test'), patch: [2, 2] as const } };
}

async function timestepSeen(types: Types): Promise<HostTensor | undefined> {
  const { session, face } = await open(types);
  return (await session.run(transformerFeeds(face, input), ['timestep_seen'])).outputs.timestep_seen;
}

describe('the timestep', () => {
  it.each<[DataTypeName, HostTensor]>([
    ['float32', { dtype: 'float32', dims: [1], data: Float32Array.of(937.5) }],
    ['float64', { dtype: 'float64', dims: [1], data: Float64Array.of(937.5) }],
    ['float16', { dtype: 'float16', dims: [1], data: Uint16Array.of(0x6353) }],
    ['int64', { dtype: 'int64', dims: [1], data: BigInt64Array.of(937n) }],
    ['int32', { dtype: 'int32', dims: [1], data: Int32Array.of(937) }],
  ])('comes as %s where the graph declares it so', async (timestep, seen) => {
    expect(await timestepSeen({ timestep })).toEqual(seen);
    expect(truncatesTimesteps((await open({ timestep })).face.signature)).toBe(timestep.startsWith('int'));
  });

  it.each<[string, readonly Dim[] | null, readonly number[]]>([
    ['0', [], []],
    ['1', [1], [1]],
    ['2', ['batch', 'tokens'], [1, TOKENS]],
    ['unknown', null, [1]],
  ])('has the rank of its input: %s', async (_, timestepDims, dims) => {
    const elements = dims.reduce((a, b) => a * b, 1);
    expect(await timestepSeen({ timestepDims })).toEqual({
      dtype: 'float32',
      dims,
      data: new Float32Array(elements).fill(937.5),
    });
  });

  it('comes as int64 for every token', async () => {
    expect(await timestepSeen({ timestep: 'int64', timestepDims: [1, TOKENS] })).toEqual({
      dtype: 'int64',
      dims: [1, TOKENS],
      data: new BigInt64Array(TOKENS).fill(937n),
    });
  });

  it('of rank 3 is refused', async () => {
    await expect(timestepSeen({ timestepDims: [1, 1, 1] })).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' });
  });
});

describe('the prediction', () => {
  it('has the shape and order of the latents', async () => {
    const { session, face } = await open();
    const { velocity, ms } = await new Denoiser(session, face).predict(input);
    expect(velocity).toEqual(input.latents.map((x) => -2 * x));
    expect(ms).toBeGreaterThan(0);
  });

  it('goes through float16 inputs and outputs as nearest values', async () => {
    const { session, face } = await open({ latents: 'float16', text: 'float16' });
    const { velocity } = await new Denoiser(session, face).predict(input);
    expect(velocity).toEqual(halfToFloat32(float32ToHalf(input.latents)).map((x) => -2 * x));
    const { outputs } = await session.run(transformerFeeds(face, input), ['text_seen']);
    expect(outputs.text_seen).toEqual({ dtype: 'float16', dims: [1, 4, 5], data: float32ToHalf(input.text.data) });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('of %s is refused', async (factor) => {
    const { session, face } = await open({}, factor);
    await expect(new Denoiser(session, face).predict(input)).rejects.toMatchObject({ code: 'NON_FINITE' });
  });
});
