import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { indexGraph } from '../../../src/ir/traverse.js';
import { addDifferences, difference, sqnr } from '../../../src/numerics/stats.js';
import { loadGraph } from '../../../src/onnx/load.js';
import type { FloatStorage } from '../../../src/quantize/options.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { type HostTensor, toFloat32 } from '../../../src/runtime/tensor.js';
import { feedsOf, readCases, readVariants, unpackVariant } from '../../helpers/variants.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();
const host = sharedHost();
const variants = await readVariants();

async function written(name: string, float: FloatStorage) {
  const pipeline = path.join(folder, `${name}-${float}`);
  await unpackVariant(name, pipeline);
  const [calibration, output] = [`${pipeline}.safetensors`, `${pipeline}-int8`];
  await calibrate({
    ...{ pipeline, output: calibration, syntheticInputs: 1, negativePrompt: '', steps: 4, guidance: 1, seed: 7 },
    ...{ buckets: 1, tokens: 'all', device: 'cpu', frames: 9, height: 128, width: 192 },
  });
  const summary = await quantize({
    ...{ pipeline, calibration, output, link: false, scheme: 'ffn', target: 'tensorrt', float },
    ...{ method: 'minmax', percentile: 99.999, keep: [] },
  });
  const file = path.join(output, 'transformer', 'model.onnx');
  const model = await loadGraph(file);
  const session = await host.createSession({ path: file }, { providers: ['cpu'] });
  const differences = [];
  const variant = variants.find((each) => each.name === name);
  for (const each of await readCases(variant as NonNullable<typeof variant>)) {
    const { feeds, output: out } = feedsOf(model.graph, each);
    const { outputs } = await session.run(feeds, [out]);
    differences.push(difference(each.output, toFloat32(outputs[out] as HostTensor)));
  }
  await session.release();
  return { summary, model, sqnr: sqnr(differences.reduce(addDifferences)) };
}

const reference = await written('dynamo', 'fp32');

describe.each(['dynamo', 'torchscript', 'opset17', 'opset23', 'opset25', 'wiped', 'fp16', 'fp16-islands'])(
  '%s with FP16 for the rest',
  async (name) => {
    const { summary, model, sqnr: after } = await written(name, 'fp16');
    const { graph } = model;

    it('has FP16 scales around every quantized linear, and the opset they need', () => {
      const { producers } = indexGraph(graph);
      const scales = graph.nodes
        .filter(({ opType }) => /^(De)?QuantizeLinear$/.test(opType))
        .map(({ inputs }) => graph.initializers.get(inputs[1] ?? '')?.dtype);
      expect(scales.length).toBeGreaterThan(0);
      expect(new Set(scales)).toEqual(new Set(['float16']));
      expect(model.opset).toBeGreaterThanOrEqual(19);
      expect(producers.size).toBeGreaterThan(0);
    });

    it('is as good as with the rest in FP32', () => {
      expect(summary.overflow).toEqual([]);
      expect(Math.abs(after - reference.sqnr)).toBeLessThan(0.3);
    });
  },
);
