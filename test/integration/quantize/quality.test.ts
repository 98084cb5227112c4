import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { evaluate } from '../../../src/evaluate/evaluate.js';
import { readPrompts } from '../../../src/pipeline/prompts.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { MICRO, MICRO_PIPELINE, ROOT } from '../../helpers/fixtures.js';

/** What onnxruntime's quantizer reached, calibrated on as many prompts, steps and branches. */
const peers: Record<string, { sqnr_mean: number }> = JSON.parse(
  readFileSync(path.join(MICRO, 'peers.json'), 'utf8'),
).results;

const sampling = { steps: 20, guidance: 5, negativePrompt: '', device: 'cpu' } as const;
const prompts = (name: string, count: number): Promise<string[]> =>
  readPrompts(path.join(ROOT, 'prompts', name)).then((all) => all.slice(0, count));

let work: string;
let calibration: string;

beforeAll(async () => {
  work = await mkdtemp(path.join(tmpdir(), 'wanq-quality-'));
  calibration = path.join(work, 'calibration.safetensors');
  await calibrate({
    ...sampling,
    pipeline: MICRO_PIPELINE,
    prompts: await prompts('calibration.txt', 4),
    seed: 0,
    output: calibration,
    buckets: 5,
    tokens: 'auto',
  });
}, 120_000);

afterAll(() => rm(work, { recursive: true, force: true }));

describe('the default method, on prompts that calibration never saw', () => {
  it.each([
    { scheme: 'ffn', target: 'tensorrt', type: 'QInt8' },
    { scheme: 'ffn', target: 'ort-cpu', type: 'QUInt8' },
    { scheme: 'blocks', target: 'tensorrt', type: 'QInt8' },
    { scheme: 'blocks', target: 'ort-cpu', type: 'QUInt8' },
  ] as const)(
    "is at least onnxruntime's best: $scheme, $target",
    async ({ scheme, target, type }) => {
      const best = Math.max(
        ...Object.entries(peers)
          .filter(([name]) => name.startsWith(`ort/${scheme}/`) && name.endsWith(`/${type}`))
          .map(([, { sqnr_mean }]) => sqnr_mean),
      );
      const output = path.join(work, `${scheme}-${target}`);
      const common = { scheme, target, method: 'kl', percentile: 99.999, keep: [], link: true } as const;
      await quantize({ ...common, pipeline: MICRO_PIPELINE, calibration, output });
      const { metrics } = await evaluate({
        ...sampling,
        reference: MICRO_PIPELINE,
        quantized: output,
        prompts: await prompts('eval.txt', 2),
        seedsPerPrompt: 1,
        seed: 1000,
        sigmas: [0.5],
        inspected: 2,
        noiseFloor: 'none',
        linears: false,
      });
      expect(metrics.sqnr?.value).toBeGreaterThanOrEqual(best);
      expect(metrics.psnr_drop?.value).toBeLessThan(0.1);
    },
    120_000,
  );
});
