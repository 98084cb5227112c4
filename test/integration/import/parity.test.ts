import { cpSync, existsSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { importCheckpoint } from '../../../src/import/import.js';
import type { TimestepInput } from '../../../src/import/options.js';
import { bfloat16ToFloat32, float32ToHalf, halfToFloat32 } from '../../../src/numerics/half.js';
import { randn } from '../../../src/numerics/rng.js';
import type { Session } from '../../../src/runtime/host.js';
import { float32Tensor, type HostTensor } from '../../../src/runtime/tensor.js';
import { readSafetensors, type SafeTensor, type Safetensors, writeSafetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE, ROOT } from '../../helpers/fixtures.js';
import { floats, relativeDeviation } from '../support/arrays.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';

const VARIANTS = path.join(ROOT, 'fixtures', 'variants');
const folder = temporaryFolder();
const host = sharedHost();

/** Imports a checkpoint from the folder for temporary files, where it can be linked, and opens what came of it. */
async function imported(checkpoint: string, name: string, timestep: TimestepInput = 'batch'): Promise<Session> {
  const output = path.join(folder, name);
  const summary = await importCheckpoint({ checkpoint, output, timestep });
  expect(summary).toMatchObject({ placed: 'linked', checked: 'ran' });
  return open(output);
}

function open(pipeline: string): Promise<Session> {
  return host.createSession({ path: path.join(pipeline, 'transformer', 'model.onnx') }, { providers: ['cpu'] });
}

/** A copy of a fixture on the file system of the outputs. */
function staged(from: string, name: string): string {
  const to = path.join(folder, name);
  cpSync(from, to, { recursive: true });
  return to;
}

interface Size {
  batch: number;
  grid: [frames: number, height: number, width: number];
  text: number;
  times: number[];
}

const SIZES: Size[] = [
  { batch: 1, grid: [5, 4, 4], text: 32, times: [500] },
  { batch: 1, grid: [1, 1, 1], text: 1, times: [0] },
  { batch: 2, grid: [3, 2, 7], text: 17, times: [999, 12.5] },
  { batch: 3, grid: [2, 5, 1], text: 40, times: [1000, 1, 250.25] },
];

const CHANNELS = 12;

function inputs({ batch, grid: [frames, height, width], text, times }: Size): Record<string, HostTensor> {
  const random = (seed: number, dims: number[]): HostTensor =>
    float32Tensor(
      randn(
        seed,
        dims.reduce((a, b) => a * b, 1),
      ),
      dims,
    );
  return {
    hidden_states: random(1, [batch, CHANNELS, frames, 2 * height, 2 * width]),
    timestep: float32Tensor(Float32Array.from(times), [batch]),
    encoder_hidden_states: random(2, [batch, text, 64]),
  };
}

/** The same timestep for every token of a video. */
function perToken(feeds: Record<string, HostTensor>, { batch, grid, times }: Size): Record<string, HostTensor> {
  const tokens = grid.reduce((a, b) => a * b, 1);
  const timestep = Float32Array.from({ length: batch * tokens }, (_, i) => times[Math.floor(i / tokens)] as number);
  return { ...feeds, timestep: float32Tensor(timestep, [batch, tokens]) };
}

async function out(session: Session, feeds: Record<string, HostTensor>): Promise<Float32Array> {
  const { outputs } = await session.run(feeds);
  return floats(outputs, 'out_sample');
}

describe('the imported micro checkpoint', () => {
  let exported: Session;
  let ours: Session;
  let tokenwise: Session;

  beforeAll(async () => {
    const checkpoint = staged(path.join(MICRO, 'checkpoint'), 'micro');
    exported = await open(MICRO_PIPELINE);
    ours = await imported(checkpoint, 'micro-batch');
    tokenwise = await imported(path.join(checkpoint, 'transformer'), 'micro-tokens', 'tokens');
  });

  it.each(SIZES)("computes what torch's exported graph does: %j", async (size) => {
    const feeds = inputs(size);
    const expected = await out(exported, feeds);
    expect(relativeDeviation(await out(ours, feeds), expected)).toBeLessThan(1e-5);
    expect(relativeDeviation(await out(tokenwise, perToken(feeds, size)), expected)).toBeLessThan(1e-5);
  });

  it('fails on a grid longer than its tables, and does not guess', async () => {
    const longer = inputs({ batch: 1, grid: [257, 1, 1], text: 1, times: [1] });
    await expect(ours.run(longer)).rejects.toMatchObject({ code: 'RUNTIME_FAILED' });
  });
});

describe('a checkpoint of half precision', () => {
  const name = 'diffusion_pytorch_model.safetensors';

  it.each<['BF16' | 'F16', (values: Float32Array) => Uint16Array]>([
    ['BF16', (values) => new Uint16Array(new Uint32Array(values.buffer).map((bits) => bits >>> 16))],
    ['F16', (values) => float32ToHalf(values)],
  ])('in %s computes in float32 on the values that are stored', async (dtype, halve) => {
    const whole = await readSafetensors(path.join(MICRO, 'checkpoint', 'transformer', name));
    const tensors = new Map(
      [...whole.tensors].map(([key, { shape, data, ...rest }]): [string, SafeTensor] => {
        // diffusers keeps norms and tables of a half checkpoint in float32.
        if (/norm|scale_shift_table/.test(key)) return [key, { shape, data, ...rest }];
        return [key, { dtype, shape, data: halve(data as Float32Array) }];
      }),
    );
    const checkpoint = staged(path.join(MICRO, 'checkpoint'), `half-${dtype}`);
    await writeSafetensors(path.join(checkpoint, 'transformer', name), { tensors, metadata: {} });
    const half = await imported(checkpoint, `half-${dtype}-pipeline`);

    const rounded = staged(path.join(MICRO, 'checkpoint'), `rounded-${dtype}`);
    const toFloats = dtype === 'BF16' ? bfloat16ToFloat32 : halfToFloat32;
    const wide = new Map(
      [...tensors].map(([key, { shape, data, dtype: type }]): [string, SafeTensor] => [
        key,
        { dtype: 'F32', shape, data: type === 'F32' ? data : toFloats(data as Uint16Array) },
      ]),
    );
    await writeSafetensors(path.join(rounded, 'transformer', name), { tensors: wide, metadata: {} });
    const full = await imported(rounded, `rounded-${dtype}-pipeline`);

    const feeds = inputs(SIZES[2] as Size);
    expect(relativeDeviation(await out(half, feeds), await out(full, feeds))).toBeLessThan(1e-6);
  });
});

describe.skipIf(!existsSync(path.join(VARIANTS, 'checkpoint')))('the sharded checkpoint', () => {
  let truths: Safetensors;
  let checkpoint: string;

  beforeAll(async () => {
    truths = await readSafetensors(path.join(VARIANTS, 'reference.safetensors'));
    checkpoint = staged(path.join(VARIANTS, 'checkpoint'), 'sharded');
  });

  it.each([
    ['batch', '', ['one', 'two', 'fractional']],
    ['tokens', 'tokens/', ['one', 'two', 'fractional', 'first-frame']],
  ] as const)('computes what diffusers does, timestep %s', async (timestep, prefix, cases) => {
    const session = await imported(checkpoint, `sharded-${timestep}`, timestep);
    for (const name of cases) {
      const truth = (part: string): HostTensor => {
        const found = truths.tensors.get(`${prefix}${name}/${part}`);
        if (!found) throw new Error(`no ${prefix}${name}/${part}`);
        return float32Tensor(found.data as Float32Array, found.shape);
      };
      const feeds = Object.fromEntries(
        ['hidden_states', 'timestep', 'encoder_hidden_states'].map((input) => [input, truth(input)]),
      );
      expect(relativeDeviation(await out(session, feeds), truth('output').data as Float32Array)).toBeLessThan(1e-5);
    }
  });
});
