import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { addDifferences, sqnr } from '../../../src/numerics/stats.js';
import { loadGraph } from '../../../src/onnx/load.js';
import type { FloatStorage } from '../../../src/quantize/options.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { readVariants, unpackVariant, type Variant } from '../../helpers/variants.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { againstTorch, calibrated, modelOf } from '../support/variants.js';

const folder = temporaryFolder();
const host = sharedHost();
const variants = await readVariants();

async function written(name: string, float: FloatStorage) {
  const pipeline = path.join(folder, `${name}-${float}`);
  await unpackVariant(name, pipeline);
  const output = `${pipeline}-int8`;
  const summary = await quantize({
    ...{ pipeline, calibration: await calibrated(pipeline), output, link: false, scheme: 'ffn', target: 'tensorrt' },
    ...{ float, method: 'minmax', percentile: 99.999, keep: [] },
  });
  const variant = variants.find((each) => each.name === name) as Variant;
  const differences = [...(await againstTorch(host, variant, output)).values()];
  return { summary, model: await loadGraph(modelOf(output)), sqnr: sqnr(differences.reduce(addDifferences)) };
}

const reference = await written('dynamo', 'fp32');

describe.each(['dynamo', 'torchscript', 'opset17', 'opset23', 'opset25', 'wiped', 'fp16', 'fp16-islands'])(
  '%s with FP16 for the rest',
  async (name) => {
    const { summary, model, sqnr: after } = await written(name, 'fp16');
    const { graph } = model;

    it('has FP16 scales around every quantized linear, and the opset they need', () => {
      const scales = graph.nodes
        .filter(({ opType }) => /^(Q|Deq)uantizeLinear$/.test(opType))
        .map(({ inputs }) => graph.initializers.get(inputs[1] ?? '')?.dtype);
      expect(scales.length).toBeGreaterThan(0);
      expect(new Set(scales)).toEqual(new Set(['float16']));
      expect(model.opset).toBeGreaterThanOrEqual(19);
    });

    it('is as good as with the rest in FP32', () => {
      expect(summary.overflow).toEqual([]);
      expect(Math.abs(after - reference.sqnr)).toBeLessThan(0.3);
    });
  },
);
