import path from 'node:path';
import { findProducts } from '../../../src/analyze/leftovers.js';
import { writeCalibration } from '../../../src/calibrate/file.js';
import { ActivationStatistics } from '../../../src/calibrate/statistics.js';
import { MersenneTwister } from '../../../src/numerics/rng.js';
import { fingerprint, loadModel } from '../../../src/onnx/load.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { runPasses } from '../../../src/passes/pass.js';

const PROMPTS = 4;
const TOKENS = 16;

/** Writes a calibration of a pipeline that no runtime made: a real one's last bits depend on the processor that it ran on. */
export async function syntheticCalibration(pipeline: string, file: string): Promise<void> {
  const loaded = await loadModel(path.join(pipeline, 'transformer', 'model.onnx'));
  const model = await fingerprint(loaded);
  runPasses(loaded.model, NORMALIZE);
  const channels = new Map(
    findProducts(loaded.model.graph).linears.map(({ activation, inFeatures }) => [activation, inFeatures]),
  );
  await loaded.close();
  const random = new MersenneTwister(0);
  const activations = [...channels].map(([value, width]) => {
    const statistics = new ActivationStatistics(value, width);
    for (let prompt = 0; prompt < PROMPTS; prompt++) {
      // Some channels are far larger than others.
      const sample = Float32Array.from({ length: TOKENS * width }, (_, i) => {
        return (random.uniform() - 0.4) * 2 ** ((i % width) % 7);
      });
      const ends = (of: (...values: number[]) => number): Float32Array =>
        Float32Array.from({ length: width }, (_, k) =>
          of(...Array.from({ length: TOKENS }, (__, row) => sample[row * width + k] as number)),
        );
      const places = Array.from({ length: TOKENS }, (_, position) => ({ position, at: position / TOKENS }));
      statistics.add(
        { prompt, branch: 'cond', bucket: 0, places, heldOfPrompt: TOKENS },
        ends(Math.min),
        ends(Math.max),
        sample,
      );
    }
    return statistics;
  });
  await writeCalibration(file, {
    ...{ activations, outputs: [], provider: 'cpu', runtimeVersion: '', wanqVersion: '', shard: null },
    done: Array.from({ length: PROMPTS }, (_, prompt) => prompt),
    identity: {
      ...{ model, inputs: 'prompts', prompts: '', promptCount: PROMPTS, seed: 0, steps: 1, guidance: 1 },
      ...{ scheduler: '', shape: [12, 5, 8, 8], buckets: 1, tokens: TOKENS, held: PROMPTS * TOKENS },
    },
  });
}
