import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { findLinears } from '../../src/analyze/linears.js';
import type { Verdict } from '../../src/gate/judge.js';
import { loadModel } from '../../src/onnx/load.js';
import type { QuantizeSummary } from '../../src/quantize/quantize.js';
import { type Results, readResults } from '../../src/report/results.js';
import { type Outcome, PROMPTS, Workplace } from '../helpers/cli.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const fresh = new Workplace();
const alone = new Workplace();
const int8 = place.path('int8');
const results = path.join('report', 'results.json');
/** Users have all threads. */
const unlimited = { WANQ_RUNTIME_THREADS: '' };
let calibrated: Outcome;
let quantized: Outcome;
let evaluated: Outcome;

const rules = (name: string, ...list: readonly object[]): string => place.write(name, JSON.stringify({ rules: list }));
const lines = (text: string): string[] => text.trimEnd().split('\n');

beforeAll(async () => {
  place.write('prompts.txt', PROMPTS.join('\n'));
  rules(
    'fair.json',
    { metric: 'psnr_drop', operator: '<=', limit: 3 },
    { metric: 'sqnr', operator: '>=', limit: 20 },
    { metric: 'size_ratio', operator: '<', limit: 0.75 },
    { metric: 'fvd_growth', operator: '<', limit: 15, level: 'warn' },
  );
  const sampling = ['--prompts', 'prompts.txt', '--steps', '3', '--device', 'cpu'];
  const run = (...args: string[]): Promise<Outcome> => place.succeed(args, unlimited);
  calibrated = await run('calibrate', MICRO_PIPELINE, ...sampling, '-o', 'calibration');
  quantized = await run(
    ...['quantize', MICRO_PIPELINE, '--calibration', 'calibration'],
    ...['--scheme', 'ffn', '--target', 'ort-cpu', '-o', 'int8'],
  );
  evaluated = await run(
    ...['eval', MICRO_PIPELINE, 'int8', ...sampling, '--sigmas', '0.5', '--inspected', '1'],
    ...['-o', 'report', '--gate', 'fair.json'],
  );
}, 100_000);

describe('calibrate', () => {
  it('runs every prompt, step and branch, and says what to do next', () => {
    expect(calibrated.stdout).toMatch(/^calibration: \d+ activations over 12 forwards on cpu, peak memory .+\n$/);
    expect(lines(calibrated.stderr).at(-1)).toContain(`next: wanq quantize ${MICRO_PIPELINE} --calibration`);
  });

  it('leaves its output, and neither a checkpoint nor a temporary file', () => {
    expect(readdirSync(place.path()).filter((name) => name.includes('calibration'))).toEqual(['calibration']);
  });

  it('with --quiet says nothing, and leaves nothing in the home folder and the folder for temporary files', async () => {
    fresh.write('prompts.txt', 'a small red circle');
    const sampling = ['--prompts', 'prompts.txt', '--steps', '1', '--guidance', '1', '--device', 'cpu'];
    const { stderr } = await fresh.succeed(['--quiet', 'calibrate', MICRO_PIPELINE, ...sampling, '-o', 'calibration']);
    expect(stderr).toBe('');
    expect(fresh.leftovers()).toEqual([]);
  });
});

describe('quantize', () => {
  it('copies every component but the transformer byte for byte', () => {
    for (const part of readdirSync(MICRO_PIPELINE, { recursive: true, encoding: 'utf8' })) {
      if (part.startsWith('transformer') || statSync(path.join(MICRO_PIPELINE, part)).isDirectory()) continue;
      expect(readFileSync(path.join(int8, part)).equals(readFileSync(path.join(MICRO_PIPELINE, part))), part).toBe(
        true,
      );
    }
    expect(readdirSync(int8).sort()).toEqual(readdirSync(MICRO_PIPELINE).sort());
  });

  it('writes the graph, its data, the plan and the configuration of the transformer', () => {
    expect(readdirSync(path.join(int8, 'transformer')).sort()).toEqual([
      'config.json',
      'model.onnx',
      'model.onnx_data',
      'plan.json',
    ]);
  });

  it('holds the weights of feed-forward linears in INT8 alone, and all others as they were', async () => {
    const before = await loadModel(path.join(MICRO_PIPELINE, 'transformer', 'model.onnx'));
    const after = await loadModel(path.join(int8, 'transformer', 'model.onnx'));
    const { nodes, initializers } = after.model.graph;
    const roles = [];
    for (const { role, node, weight, outFeatures } of findLinears(before.model.graph)) {
      const kept = initializers.get(weight.name);
      if (kept) {
        expect(Buffer.from(await after.read(kept)).equals(await before.read(weight)), role).toBe(true);
        continue;
      }
      const input = nodes.find(({ name }) => name === node.name)?.inputs[1] ?? '';
      const dequantize = nodes.find(({ outputs }) => outputs.includes(input));
      expect(dequantize?.opType, role).toBe('DequantizeLinear');
      const [values, scales] = (dequantize?.inputs ?? []).map((name) => initializers.get(name));
      expect(values, role).toMatchObject({ dtype: 'int8', data: { kind: 'external', location: 'model.onnx_data' } });
      expect(values?.elements, role).toBe(weight.elements);
      expect(scales, role).toMatchObject({ dtype: 'float32', dims: [outFeatures] });
      roles.push(role);
    }
    await before.close();
    await after.close();
    expect(roles).toEqual([0, 1, 2, 3, 4, 5].flatMap((n) => [`blocks.${n}.ffn.up`, `blocks.${n}.ffn.down`]));
    expect(quantized.stdout).toContain('int8: 12 of 67 linears in INT8');
  });

  it('gives the same bytes again, with the other components linked, and prints JSON alone', async () => {
    const args = ['quantize', MICRO_PIPELINE, '--calibration', 'calibration', '--link', '-o', 'linked'];
    const { stdout } = await place.succeed([...args, '--json']);
    const summary = JSON.parse(stdout) as QuantizeSummary;
    expect(summary.plan.rows.filter(({ decision }) => decision === 'int8')).toHaveLength(12);
    expect(summary.verified.sqnr).toBeGreaterThan(20);
    for (const name of ['model.onnx', 'model.onnx_data']) {
      const [a, b] = ['int8', 'linked'].map((folder) => readFileSync(place.path(folder, 'transformer', name)));
      expect(b?.equals(a ?? Buffer.of()), name).toBe(true);
    }
    expect(existsSync(place.path('linked', 'vae_decoder', 'model.onnx'))).toBe(true);
  });
});

describe('eval', () => {
  it('passes a gate of rules that hold, and reports one that only warns', () => {
    const verdict = lines(evaluated.stdout).filter((line) => /^(ok|warn|FAILED|gate)/.test(line));
    expect(verdict.map((line) => line.split(' ')[0])).toEqual(['ok', 'ok', 'ok', 'warn', 'gate']);
    expect(verdict.at(-1)).toBe('gate passed');
  });

  it('writes results that readResults takes, with what was asked for in them', async () => {
    const { settings, metrics, steps, videos, psnrDrop } = await readResults(place.path(results));
    expect(settings).toMatchObject({ prompts: 2, steps: 3, sigmas: [0.5], latents: [12, 5, 8, 8] });
    expect([steps.length, videos.length, psnrDrop.length]).toEqual([6, 2, 1]);
    expect(metrics.sqnr?.value).toBeGreaterThan(20);
    expect(metrics.size_ratio?.value).toBeLessThan(0.75);
    expect(metrics.fvd_growth).toMatchObject({ value: null, note: expect.stringContaining('--features') });
  });

  it('writes a report and a strip of frames for each inspected video', async () => {
    const { videos } = await readResults(place.path(results));
    expect(videos.map(({ strip }) => strip)).toEqual(['media/000-strip.png', null]);
    const { format, width, height } = await sharp(place.path('report', 'media', '000-strip.png')).metadata();
    expect({ format, width, height }).toEqual({ format: 'png', width: 6 * 128, height: 3 * 128 });
    const report = readFileSync(place.path('report', 'report.md'), 'utf8');
    expect(report).toMatch(/^# Passed/);
    expect(report).toContain('](media/000-strip.png)');
    expect(readdirSync(place.path('report')).sort()).toEqual(['media', 'report.html', 'report.md', 'results.json']);
    expect(readFileSync(place.path('report', 'report.html'), 'utf8')).toMatch(/^<!doctype html>[\s\S]*<\/html>\n$/);
  });

  it('fails the default gate without a feature network; --json prints JSON alone, --quiet says nothing', async () => {
    place.write('prompt.txt', 'a small red circle');
    const sampling = ['--prompts', 'prompt.txt', '--steps', '1', '--guidance', '1', '--device', 'cpu'];
    const light = ['--sigmas', '0.5', '--inspected', '1', '--noise-floor', 'none'];
    const { code, stdout, stderr } = await place.wanq([
      ...['--json', '--quiet', 'eval', MICRO_PIPELINE, 'int8', ...sampling, ...light, '-o', 'failed', '--gate'],
    ]);
    expect([code, stderr]).toEqual([1, '']);
    const { metrics, verdict } = JSON.parse(stdout) as Results & { verdict: Verdict };
    expect(metrics.psnr_floor?.value).toBeNull();
    expect(verdict.checks.map(({ rule, passed }) => [rule.metric, passed])).toEqual([
      ['psnr_drop', true],
      ['fvd_growth', false],
      ['linear_excess', true],
      ['scale_ratio_max', true],
    ]);
    expect(readFileSync(place.path('failed', 'report.md'), 'utf8')).toMatch(/^# Failed/);
  });
});

describe('gate', () => {
  it('judges saved results by other rules, with no pipeline in reach', async () => {
    mkdirSync(alone.path('saved'));
    copyFileSync(place.path(results), alone.path('saved', 'results.json'));
    alone.write(
      'strict.json',
      readFileSync(
        place.path(
          rules(
            'strict.json',
            { metric: 'sqnr', operator: '>=', limit: 1000 },
            { metric: 'psnr_drop', operator: '<=', limit: 3 },
            { metric: 'cosine_min', operator: '>', limit: 2 },
          ),
        ),
      ),
    );
    const { code, stdout, stderr } = await alone.wanq(['gate', 'saved/results.json', '--rules', 'strict.json']);
    expect([code, stderr]).toEqual([1, '']);
    const failed = lines(stdout).filter((line) => line.startsWith('FAILED'));
    expect(failed.map((line) => line.split(' ')[1])).toEqual(['sqnr', 'cosine_min']);
    expect(
      lines(stdout)
        .slice(3)
        .map((line) => line.split(' ').slice(0, 2).join(' ')),
    ).toEqual([...['look first', 'worst step:', 'worst prompt:', 'gate failed:']]);
    expect(alone.leftovers()).toEqual([]);
  });

  it('fails the default rules for the missing FVD growth alone', async () => {
    const { code, stdout } = await place.wanq(['gate', results]);
    expect(code).toBe(1);
    expect(stdout.match(/^FAILED .*$/gm)).toEqual([expect.stringContaining('FAILED fvd_growth has no usable value')]);
  });

  it('passes rules that hold, and names the nearest metric for one that is unknown', async () => {
    expect((await place.wanq(['gate', results, '--rules', 'fair.json'])).code).toBe(0);
    rules('unknown.json', { metric: 'sqrn', operator: '>=', limit: 10 });
    const { code, stdout } = await place.wanq(['--json', 'gate', results, '--rules', 'unknown.json']);
    expect(code).toBe(1);
    const { passed, checks } = JSON.parse(stdout) as Verdict;
    expect(passed).toBe(false);
    expect(checks.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^sqrn is missing.*nearest metric is sqnr$/),
    ]);
  });
});
