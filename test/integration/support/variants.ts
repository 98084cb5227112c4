import path from 'node:path';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { type Difference, difference } from '../../../src/numerics/stats.js';
import { loadGraph } from '../../../src/onnx/load.js';
import type { RuntimeHost } from '../../../src/runtime/host.js';
import { type HostTensor, toFloat32 } from '../../../src/runtime/tensor.js';
import { feedsOf, readCases, type Variant } from '../../helpers/variants.js';
import { CPU } from './graphs.js';

export const modelOf = (pipeline: string): string => path.join(pipeline, 'transformer', 'model.onnx');

/** Calibrates a variant on random embeddings. @returns the calibration file, beside the pipeline */
export async function calibrated(pipeline: string): Promise<string> {
  const output = `${pipeline}.safetensors`;
  await calibrate({
    ...{ pipeline, output, syntheticInputs: 1, negativePrompt: '', steps: 4, guidance: 1, seed: 7 },
    ...{ buckets: 1, tokens: 'all', device: 'cpu', frames: 9, height: 128, width: 192 },
  });
  return output;
}

/** The transformer of a pipeline that was made of a variant, against torch, by case. */
export async function againstTorch(
  host: RuntimeHost,
  variant: Variant,
  pipeline: string,
): Promise<Map<string, Difference>> {
  const { graph } = await loadGraph(modelOf(pipeline));
  const session = await host.createSession({ path: modelOf(pipeline) }, CPU);
  const differences = new Map<string, Difference>();
  for (const each of await readCases(variant)) {
    const { feeds, output } = feedsOf(graph, each);
    const { outputs } = await session.run(feeds, [output]);
    differences.set(each.name, difference(each.output, toFloat32(outputs[output] as HostTensor)));
  }
  await session.release();
  return differences;
}
