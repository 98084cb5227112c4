import { stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeCalibration } from '../../../src/calibrate/file.js';
import { assertCalibrationSpace, calibrationBytes } from '../../../src/calibrate/space.js';
import { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { MersenneTwister } from '../../../src/numerics/rng.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

describe('calibrationBytes', () => {
  it('foresees the file of activations that fill their histograms', async () => {
    const [channels, held, buckets] = [64, 20, 3];
    const generator = new MersenneTwister(1);
    const sample = Float32Array.from({ length: 1000 * channels }, () => generator.uniform() - 0.5);
    const extremes = new Float32Array(channels);
    const activations = ['a', 'b'].map((value) => {
      const statistics = new ActivationStatistics(value, channels);
      for (const branch of ['cond', 'uncond'] as const) {
        for (let bucket = 0; bucket < buckets; bucket++) {
          const forward = { prompt: bucket, branch, bucket, places: [], heldOfPrompt: 0 };
          statistics.add(forward, extremes, extremes, sample);
        }
      }
      statistics.held.set(0, new Float32Array(held * channels));
      return statistics;
    });
    const file = path.join(await temporaryFolder(), 'calibration');
    const identity = {
      ...{ model: '', inputs: 'prompts' as const, prompts: '', promptCount: 3, seed: 0, steps: 1, guidance: 1 },
      ...{ scheduler: '', shape: [1, 1, 1, 1], buckets, tokens: 'all' as const, held },
    };
    const rest = { provider: '', runtimeVersion: '', wanqVersion: '', shard: null, done: [0, 1, 2], outputs: [] };
    await writeCalibration(file, { identity, ...rest, activations });
    const { size } = await stat(file);
    const foreseen = calibrationBytes({ channels: [channels, channels], buckets, branches: 2, held });
    expect(foreseen).toBeGreaterThan(0.9 * size);
    expect(foreseen).toBeLessThan(2 * size);
  });
});

describe('assertCalibrationSpace', () => {
  it('refuses what no disk has', async () => {
    const size = { channels: [2 ** 40], buckets: 10, branches: 2, held: 1024 };
    const error = await expectRejection(
      assertCalibrationSpace(path.join(await temporaryFolder(), 'out'), size),
      'NO_SPACE',
    );
    expect(error.hint).toContain('--held-tokens');
  });
});
