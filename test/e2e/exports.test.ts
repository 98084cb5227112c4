import { spawn } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import type { LinearRow } from '../../src/analyze/inspect.js';
import type { QuantizeSummary } from '../../src/quantize/quantize.js';
import { WANQ, Workplace } from '../helpers/cli.js';
import { unpackVariant } from '../helpers/variants.js';

const place = new Workplace();

const size = ['--frames', '9', '--height', '128', '--width', '192'];
const sampling = ['--synthetic-inputs', '1', '--steps', '2', '--guidance', '1', '--device', 'cpu', ...size];

beforeAll(async () => {
  for (const name of ['wiped', 'fp16', 'quantized', 'not-wan']) await unpackVariant(name, place.path(name));
});

describe('inspect of a graph without names', () => {
  it('gives the evidence for every role', async () => {
    const { stdout } = await place.succeed(['inspect', 'wiped', '--roles', '--json']);
    const { linears } = JSON.parse(stdout) as { linears: LinearRow[] };
    expect(linears).toHaveLength(27);
    for (const { role, structure, confidence, evidence } of linears) {
      expect(structure).toBe(role);
      expect(confidence).toBe('high');
      expect(evidence).toMatch(/ /);
    }
    const table = (await place.succeed(['inspect', 'wiped', '--roles'])).stdout;
    expect(table).toContain('structure says');
    expect(table).toMatch(/blocks\.1\.ffn\.down .*the same/);
  });

  it('prints it as text, also to a reader that does not want all of it', async () => {
    const { stdout } = await place.succeed(['inspect', 'wiped', '--text']);
    expect(stdout.split('\n').length).toBeGreaterThan(400);
    const child = spawn(process.execPath, [WANQ, 'inspect', place.path('wiped'), '--text']);
    let said = '';
    child.stderr.on('data', (text) => {
      said += text;
    });
    child.stdout.destroy();
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
    expect(said).toBe('');
  });
});

describe('quantize --verbose', () => {
  it.each([
    ['wiped', 'ort-cpu', ['smooth-activations', 'quantize-linears', 'remove-unused']],
    ['wiped', 'tensorrt', ['smooth-activations', 'quantize-linears', 'compute-float16', 'remove-unused']],
    ['fp16', 'tensorrt', ['smooth-activations', 'quantize-linears', 'remove-unused']],
  ])('says of %s for %s what each pass did, and leaves a graph that differs in that', async (name, target, passes) => {
    const calibration = `${name}-${target}.safetensors`;
    await place.succeed(['calibrate', name, ...sampling, '-o', calibration]);
    const output = `${name}-${target}`;
    const flags = [
      '--calibration',
      calibration,
      '--target',
      target,
      '--float',
      target === 'tensorrt' ? 'fp16' : 'fp32',
    ];
    const { stdout, stderr } = await place.succeed(['--verbose', '--json', 'quantize', name, ...flags, '-o', output]);
    const summary = JSON.parse(stdout) as QuantizeSummary;
    expect(summary.passes.map(({ pass }) => pass)).toEqual(passes);
    for (const { pass, did } of summary.passes) expect(stderr.split('\n')).toContain(`${pass}: ${did}`);
    const text = async (folder: string): Promise<Set<string>> =>
      new Set((await place.succeed(['inspect', folder, '--text'])).stdout.split('\n'));
    const [before, after] = [await text(name), await text(output)];
    const kept = [...before].filter((line) => after.has(line));
    expect(kept.length).toBeGreaterThan(before.size / 2);
    expect([...after].filter((line) => line.includes('QuantizeLinear')).length).toBeGreaterThan(0);
  });
});

describe('graphs that cannot be quantized', () => {
  it.each([
    ['quantized', ['quantize', 'quantized', '--dry-run'], /is quantized already .*start from the FP32 or FP16 model/],
    ['not-wan', ['calibrate', 'not-wan', ...sampling, '-o', 'x'], /has no input for latents/],
  ])('%s: one line and exit code 3', async (_, args, line) => {
    const { code, stderr } = await place.wanq(args);
    expect(code).toBe(3);
    const said = stderr.trimEnd().split('\n');
    expect(said.at(-1)).toMatch(line);
    expect(said.at(-1)).toMatch(/\[MODEL_UNSUPPORTED\]$/);
  });
});
