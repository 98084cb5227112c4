import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { evaluate } from '../../../src/evaluate/evaluate.js';
import { SharedReference } from '../../../src/evaluate/shared-reference.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { Scheme } from '../../../src/quantize/scheme.js';
import type { Results } from '../../../src/report/results.js';
import { PROMPTS } from '../../helpers/cli.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();

/** Metrics that the same models give whenever they are measured. */
function quality({ metrics }: Results): Record<string, number | null> {
  const names = ['sqnr', 'sqnr_min', 'psnr_drop', 'psnr', 'psnr_floor', 'ssim', 'size_ratio'];
  return Object.fromEntries(names.map((name) => [name, metrics[name]?.value ?? null]));
}

interface Measured {
  readonly results: Results;
  /** How many forwards each stage made. */
  readonly stages: Record<string, number>;
}

async function measure(quantized: string, shared?: SharedReference): Promise<Measured> {
  const stages: Record<string, number> = {};
  const results = await evaluate({
    ...{ reference: MICRO_PIPELINE, quantized, prompts: PROMPTS.slice(0, 1), negativePrompt: '', seedsPerPrompt: 1 },
    ...{ seed: 1000, steps: 2, guidance: 1, sigmas: [0.5], inspected: 1, device: 'cpu', shared },
    noiseFloor: 'fp16-weights',
    onProgress: ({ stage, done }) => {
      stages[stage] = done;
    },
  });
  return { results, stages };
}

beforeAll(async () => {
  for (const scheme of ['ffn', 'blocks'] satisfies Scheme[]) {
    await quantize({
      ...{ pipeline: MICRO_PIPELINE, scheme, target: 'webgpu', method: 'minmax', percentile: 99.99, keep: [] },
      ...{ output: path.join(folder, scheme), link: true, verify: 'load' },
    });
  }
}, 60_000);

describe('evaluations that share their reference', () => {
  it('measure what each measures alone, and run the reference once', async () => {
    const shared = await SharedReference.open();
    try {
      const forwards = ({ stages }: Measured) =>
        ['reference model', 'noise floor', 'quantized model'].map((stage) => stages[stage]);
      expect(forwards(await measure(path.join(folder, 'ffn'), shared))).toEqual([3, 2, 5]);
      const together = await measure(path.join(folder, 'blocks'), shared);
      expect(forwards(together)).toEqual([undefined, undefined, 5]);
      const alone = await measure(path.join(folder, 'blocks'));
      expect(forwards(alone)).toEqual([3, 2, 5]);
      expect(quality(together.results)).toEqual(quality(alone.results));
    } finally {
      await shared.close();
    }
  }, 120_000);

  it('make again what failed', async () => {
    const shared = await SharedReference.open();
    try {
      await expect(shared.once('it', () => Promise.reject(new Error('first')))).rejects.toThrow('first');
      expect(await shared.once('it', async () => 2)).toBe(2);
      expect(await shared.once('it', async () => 3)).toBe(2);
    } finally {
      await shared.close();
    }
  });
});
