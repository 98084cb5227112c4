import { beforeAll, describe, expect, it } from 'vitest';
import { Tensor } from '../../src/ir/tensor.js';
import { encodeModel } from '../../src/onnx/codec.js';
import { Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';
import { codes, filled, matmul, OUT, pair, parameters, quantizedModel, weight } from '../helpers/quantized.js';

const place = new Workplace();

beforeAll(async () => {
  await place.succeed(['quantize', MICRO_PIPELINE, '--target', 'ort-cuda', '--scheme', 'ffn', '--link', '-o', 'cuda']);
});

describe('wanq check', () => {
  it('ends with 0 where all products become integer kernels, and lists them when asked', async () => {
    const { code, stdout, stderr } = await place.wanq(['check', 'cuda', '--target', 'ort-cuda', '--all']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('12 of 12 quantized products become integer kernels');
    expect(stdout.match(/blocks\.\d\.ffn\.(up|down)/g)).toHaveLength(12);
  });

  it('ends with 1 where some stay products of floats, and says which and why', async () => {
    const { code, stdout, stderr } = await place.wanq(['check', 'cuda', '--target', 'tensorrt']);
    expect(code).toBe(1);
    expect(stdout).toContain('the parser does not take MatMulInteger: blocks.0.ffn.up, ');
    expect(stdout).toContain('and 6 more');
    expect(stdout).toContain('12 stay products of floats');
    expect(stderr).toContain('wanq wrote this model for ort-cuda');
  });

  it('prints JSON and nothing else', async () => {
    const { code, stdout } = await place.wanq(['--json', '--quiet', 'check', 'cuda', '--target', 'webgpu']);
    expect(code).toBe(1);
    const report = JSON.parse(stdout) as { float: number; madeFor: string; products: { reasons: string[] }[] };
    expect(report).toMatchObject({ float: 12, madeFor: 'ort-cuda' });
    expect(report.products[0]?.reasons[0]).toContain('runs on the CPU');
  });

  it('ends with 1 where a scale or a zero point is wrong, and names each', async () => {
    const model = quantizedModel(
      [...pair(), weight(), matmul()],
      parameters({}, Tensor.float32('xs', [], [2 ** -130]), codes('wz', [OUT - 1], filled(OUT - 1, 0), 'int8')),
    );
    place.write('wrong.onnx', encodeModel(model));
    const { code, stdout } = await place.wanq(['check', 'wrong.onnx', '--target', 'ort-cpu']);
    expect(code).toBe(1);
    expect(stdout).toContain('\nxs is below the smallest normal number: some kernels take it for 0\n');
    expect(stdout).toContain(`\nwz is [${OUT - 1}] and its scale [${OUT}]\n`);
  });

  it.each([
    [['check', MICRO_PIPELINE, '--target', 'ort-cpu'], 3, 'has no quantized product'],
    [['check', 'absent', '--target', 'ort-cpu'], 5, 'does not exist'],
    [['check', 'cuda'], 2, '--target'],
    [['check', 'cuda', '--target', 'npu'], 2, 'npu'],
  ])('says of %j in one line what is wrong', async (args, code, text) => {
    const outcome = await place.wanq(args);
    expect([outcome.code, outcome.stdout]).toEqual([code, '']);
    expect(outcome.stderr).toContain(text);
    expect(outcome.stderr).not.toContain('    at ');
  });
});

describe('wanq quantize --activations', () => {
  it.each([
    [['--target', 'tensorrt', '--activations', 'dynamic'], 'target tensorrt has no dynamic activations'],
    [['--target', 'webgpu', '--activations', 'static'], 'target webgpu has no static activations'],
    [['--target', 'ort-cuda', '--activations', 'static'], '--calibration is missing'],
  ])('refuses %j', async (flags, text) => {
    const { code, stderr } = await place.wanq(['quantize', MICRO_PIPELINE, ...flags, '-o', 'refused']);
    expect(code).toBe(2);
    expect(stderr).toContain(text);
  });

  it('shows in the plan what each linear computes with', async () => {
    const flags = ['--target', 'ort-cpu', '--activations', 'dynamic', '--dry-run'];
    const { stdout } = await place.succeed(['--json', 'quantize', MICRO_PIPELINE, ...flags]);
    const { precision, rows } = JSON.parse(stdout) as { precision: string; rows: { role: string; decision: string }[] };
    expect(precision).toBe('int8-dynamic');
    expect(rows.find(({ role }) => role === 'blocks.0.ffn.up')?.decision).toBe('int8-dynamic');
  });
});
