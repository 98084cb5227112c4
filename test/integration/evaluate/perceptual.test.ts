import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { PerceptualNetwork, readPerceptual } from '../../../src/evaluate/perceptual.js';
import { int, ints } from '../../../src/ir/attribute.js';
import type { DataTypeName } from '../../../src/ir/dtype.js';
import type { Dim } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import type { Video } from '../../../src/pipeline/vae.js';
import { expectRejection } from '../../unit/helpers/errors.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { CPU, cast, modelOf, node, value } from '../support/graphs.js';

const folder = temporaryFolder();
const host = sharedHost();
const SIZE = { height: 6, width: 5 };

interface NetworkFields {
  readonly dims?: readonly Dim[];
  readonly dtype?: DataTypeName;
  readonly keepdims?: boolean;
  readonly inputs?: number;
  readonly axes?: readonly number[];
}

let written = 0;

const CHANNEL_WEIGHTS = [1, 2, 4];

/** Mean over an image of w (a - b) a, with a weight for each channel: tells inputs, channels, rows and frames apart. */
async function network(fields: NetworkFields = {}): Promise<string> {
  const { dims = ['n', 3, 'h', 'w'], dtype = 'float32', keepdims = true, inputs = 2, axes = [1, 2, 3] } = fields;
  const names = ['a', 'b', 'c'].slice(0, inputs);
  const nodes = [
    ...names.map((name) => cast(name, `${name}_float`, 'float32')),
    node('Sub', ['a_float', inputs > 1 ? 'b_float' : 'w'], 'difference'),
    node('Mul', ['difference', 'a_float'], 'product'),
    node('Mul', ['product', 'w'], 'weighted'),
    node('ReduceMean', ['weighted'], 'out', [ints('axes', [...axes]), int('keepdims', keepdims ? 1 : 0)]),
  ];
  const model = modelOf({
    nodes,
    inputs: names.map((name) => value(name, dtype, dims)),
    outputs: [value('out', 'float32', keepdims ? ['n', 1, 1, 1] : ['n'])],
    initializers: [Tensor.float32('w', [1, 3, 1, 1], CHANNEL_WEIGHTS)],
    opset: 13,
  });
  const file = path.join(folder, `${written++}.onnx`);
  await writeFile(file, encodeModel(model));
  return file;
}

function video(frames: number, seed: number): Video {
  const data = Uint8Array.from(
    { length: frames * SIZE.height * SIZE.width * 3 },
    (_, i) => (i * i * 7 + i * seed) % 256,
  );
  return { ...SIZE, frames, data };
}

function expectedDistance(a: Video, b: Video): number {
  const signed = (x: number): number => (x / 255) * 2 - 1;
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) {
    const [x, y] = [signed(a.data[i] as number), signed(b.data[i] as number)];
    sum += (CHANNEL_WEIGHTS[i % 3] as number) * (x - y) * x;
  }
  return sum / a.data.length;
}

async function distance(file: string, a: Video, b: Video): Promise<number> {
  const opened = await PerceptualNetwork.open(await readPerceptual(file, SIZE), host, CPU);
  return opened.distance(a, b);
}

describe('distance', () => {
  it.each<[string, NetworkFields, number]>([
    ['one image at a time', { dims: [1, 3, 6, 5] }, 1e-6],
    ['a free batch', {}, 1e-6],
    ['one number an image without further axes', { keepdims: false }, 1e-6],
    ['float16 images', { dtype: 'float16' }, 1e-3],
  ])('is the mean over frames: %s', async (_, fields, tolerance) => {
    const [a, b] = [video(5, 3), video(5, 11)];
    expect(Math.abs((await distance(await network(fields), a, b)) - expectedDistance(a, b))).toBeLessThan(tolerance);
  });

  it('does not depend on how frames fall into batches', async () => {
    const file = await readPerceptual(await network(), SIZE);
    const [a, b] = [video(7, 3), video(7, 11)];
    for (const batch of [1, 2, 7, 100]) {
      const opened = await PerceptualNetwork.open({ ...file, batch }, host, CPU);
      expect(Math.abs((await opened.distance(a, b)) - expectedDistance(a, b)), `batches of ${batch}`).toBeLessThan(
        1e-6,
      );
    }
  });

  it('refuses a network that gives another number of distances', async () => {
    const file = await network({ axes: [0, 1, 2], dims: [1, 3, 6, 5] });
    await expectRejection(distance(file, video(2, 3), video(2, 11)), 'PERCEPTUAL_INVALID');
  });

  it('refuses videos of different lengths', async () => {
    await expect(distance(await network(), video(2, 3), video(3, 3))).rejects.toThrow(RangeError);
  });
});

describe('readPerceptual', () => {
  it.each<[string, NetworkFields, RegExp]>([
    ['one input', { inputs: 1 }, /1 inputs/],
    ['three inputs', { inputs: 3 }, /3 inputs/],
    ['videos', { dims: ['n', 3, 'f', 'h', 'w'] }, /\[n, 3, f, h, w\], and not \[N, 3, H, W\]/],
    ['grey images', { dims: ['n', 1, 'h', 'w'] }, /\[n, 1, h, w\]/],
    ['integers', { dtype: 'uint8' }, /of type uint8/],
    ['a fixed batch', { dims: [4, 3, 'h', 'w'] }, /batches of 4/],
    ['another size', { dims: [1, 3, 64, 64] }, /images of 64 x 64 .* these are 6 x 5/],
  ])('refuses a graph that takes %s', async (_, fields, message) => {
    await expect(readPerceptual(await network(fields), SIZE)).rejects.toMatchObject({
      code: 'PERCEPTUAL_INVALID',
      exitCode: 3,
      message: expect.stringMatching(message),
    });
  });

  it('puts several frames into a run only where the batch is free', async () => {
    expect((await readPerceptual(await network(), SIZE)).batch).toBeGreaterThan(1);
    expect((await readPerceptual(await network({ dims: [1, 3, 'h', 'w'] }), SIZE)).batch).toBe(1);
    expect((await readPerceptual(await network(), { height: 704, width: 1280 })).batch).toBe(1);
  });

  it('says that a file does not exist', async () => {
    await expectRejection(readPerceptual(path.join(folder, 'none.onnx'), SIZE), 'NOT_FOUND');
  });
});
