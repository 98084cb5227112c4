import { cpSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import { Workplace } from '../helpers/cli.js';
import { MICRO, MICRO_PIPELINE } from '../helpers/fixtures.js';

const SHARD = path.join('transformer', 'diffusion_pytorch_model.safetensors');
const place = new Workplace();

/** A copy of the micro checkpoint, changed. */
function checkpointWith(name: string, change: (folder: string) => void): void {
  cpSync(path.join(MICRO, 'checkpoint'), place.path(name), { recursive: true });
  change(place.path(name));
}

function withConfig(name: string, change: Record<string, unknown>): void {
  const config = { num_attention_heads: 4, attention_head_dim: 32, in_channels: 12, out_channels: 12 };
  const rest = { text_dim: 64, freq_dim: 64, ffn_dim: 576, num_layers: 6, rope_max_seq_len: 256 };
  checkpointWith(name, (folder) =>
    writeFileSync(path.join(folder, 'transformer', 'config.json'), JSON.stringify({ ...config, ...rest, ...change })),
  );
}

beforeAll(() => {
  checkpointWith('checkpoint', () => {});
  checkpointWith('pickled', (folder) =>
    renameSync(path.join(folder, SHARD), path.join(folder, 'transformer', 'model.bin')),
  );
  checkpointWith('truncated', (folder) => truncateSync(path.join(folder, SHARD), 1_000_000));
  checkpointWith('outside', (folder) =>
    writeFileSync(
      path.join(folder, `${SHARD}.index.json`),
      JSON.stringify({ weight_map: { scale_shift_table: '../../checkpoint/x.safetensors' } }),
    ),
  );
  withConfig('shallow', { num_layers: 5 });
  withConfig('deep', { num_layers: 7 });
  withConfig('wide', { ffn_dim: 577 });
  withConfig('vace', { _class_name: 'WanVACETransformer3DModel' });
  place.write('file', '');
});

afterEach(() => {
  for (const name of ['out', 'int8']) rmSync(place.path(name), { recursive: true, force: true });
});

describe('wanq import', () => {
  it('makes a pipeline that inspect, calibrate and quantize take', async () => {
    const { stdout, stderr } = await place.succeed([
      'import',
      'checkpoint',
      '--components',
      MICRO_PIPELINE,
      '-o',
      'out',
    ]);
    expect(stdout).toMatch(
      /^out: 6 blocks, 177 tensors \(float32\), 7\.41 MB of weights in 1 safetensors file, linked/,
    );
    expect(stdout.trimEnd()).not.toContain('\n');
    expect(stderr).toContain('checked: onnxruntime loads the graph and ran it');
    expect(stderr).not.toContain('lacking');
    expect(statSync(place.path('out', SHARD)).ino).toBe(statSync(place.path('checkpoint', SHARD)).ino);
    const inspected = await place.succeed(['inspect', 'out']);
    expect(inspected.stdout).toContain('blocks.*.ffn.up');
    place.write('prompts.txt', 'a small red circle moving left over a dark background');
    const short = ['--prompts', 'prompts.txt', '--steps', '1', '--guidance', '1', '--device', 'cpu'];
    await place.succeed(['calibrate', 'out', ...short, '-o', 'calibration']);
    await place.succeed(['quantize', 'out', '--calibration', 'calibration', '--link', '-o', 'int8']);
  });

  it('says what a folder lacks', async () => {
    const { stderr } = await place.succeed(['import', 'checkpoint', '-o', 'out']);
    expect(stderr).toMatch(/^lacking: text_encoder, vae_decoder: .*export_wan\.py.*--components/m);
    expect(stderr).toMatch(/^next: wanq calibrate out --synthetic-inputs 1/m);
  });

  it('prints its summary as JSON', async () => {
    const args = ['--json', '--quiet', 'import', path.join('checkpoint', 'transformer'), '--copy', '-o', 'out'];
    const { stdout, stderr } = await place.succeed(args);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({ output: 'out', tensors: 177, placed: 'copied', checked: 'ran' });
  });

  it('takes a timestep for every token', async () => {
    await place.succeed(['import', 'checkpoint', '--timestep', 'tokens', '-o', 'out']);
    expect((await place.succeed(['inspect', 'out'])).stdout).toContain('tokens');
  });
});

describe('a mistake', () => {
  it.each<[string, string, ErrorCode, number, string]>([
    ['a path that is not there', 'nowhere', 'NOT_FOUND', 5, 'nowhere does not exist'],
    ['a file', 'file', 'NOT_A_PIPELINE', 3, 'is a file'],
    ['a pipeline that is ONNX already', MICRO_PIPELINE, 'MODEL_UNSUPPORTED', 3, 'no .safetensors file'],
    ['pickled weights', 'pickled', 'MODEL_UNSUPPORTED', 3, 'only model.bin'],
    ['truncated weights', 'truncated', 'SAFETENSORS_INVALID', 3, 'truncated'],
    ['an index that leaves the folder', 'outside', 'MODEL_INVALID', 3, 'no plain file name'],
    ['weights that are too many', 'shallow', 'MODEL_INVALID', 3, '27 tensors are not part of the model (blocks.5.'],
    ['weights that are missing', 'deep', 'MODEL_INVALID', 3, '27 tensors are missing (blocks.6.'],
    ['weights of another shape', 'wide', 'MODEL_INVALID', 3, 'is [576, 128], expected [577, 128]'],
    ['another model', 'vace', 'MODEL_UNSUPPORTED', 3, 'WanVACETransformer3DModel'],
  ])('is one line: %s', async (_, checkpoint, code, exit, says) => {
    const before = place.listing();
    const outcome = await place.wanq(['import', checkpoint, '-o', 'out']);
    expect(outcome.stderr).toMatch(new RegExp(`^wanq: .* \\[${code}\\]\\n$`));
    expect(outcome.stderr).toContain(says);
    expect(outcome).toMatchObject({ code: exit, stdout: '' });
    expect(place.listing()).toEqual(before);
  });

  it.each<[string, string[], string]>([
    ['no output', ['import', 'checkpoint'], '--output'],
    ['an output that is there', ['import', 'checkpoint', '-o', 'file'], 'exists already'],
    ['an output inside the checkpoint', ['import', 'checkpoint', '-o', 'checkpoint/onnx'], 'inside'],
    [
      'another timestep',
      ['import', 'checkpoint', '--timestep', 'steps', '-o', 'out'],
      'Allowed choices are batch, tokens',
    ],
  ])('of usage is one line: %s', async (_, args, says) => {
    const outcome = await place.wanq(args);
    expect(outcome).toMatchObject({ code: 2, stdout: '' });
    expect(outcome.stderr).toMatch(/^wanq: .*\n$/);
    expect(outcome.stderr).toContain(says);
  });
});
