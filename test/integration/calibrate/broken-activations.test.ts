import { cp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { int } from '../../../src/ir/attribute.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { NOT_FINITE } from '../../../src/quantize/plan.js';
import { planPipeline } from '../../../src/quantize/quantize.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';
import { node } from '../support/graphs.js';

const folder = temporaryFolder();
const CHANNELS = 16;

/** The micro pipeline with linears that read infinities in one channel of two tokens; their results are masked out, so that the output stays finite. */
async function brokenPipeline(linears: number): Promise<string> {
  const pipeline = path.join(folder, `broken-${linears}`);
  const source = path.join(MICRO_PIPELINE, 'transformer');
  await cp(MICRO_PIPELINE, pipeline, {
    recursive: true,
    filter: (file) => !/^model\.onnx/.test(path.basename(file)) || path.dirname(file) !== source,
  });
  const loaded = await loadModel(path.join(source, 'model.onnx'));
  const { graph } = loaded.model;
  const [output] = graph.outputs as [(typeof graph.outputs)[number]];
  const maker = graph.nodes.find(({ outputs }) => outputs.includes(output.name));
  if (!maker) throw new Error('nothing makes the output');
  maker.outputs = [`${output.name}_plain`];
  const tokens = new Float32Array(2 * CHANNELS);
  tokens[3] = Number.POSITIVE_INFINITY;
  graph.addInitializer(Tensor.float32('odd_tokens', [2, CHANNELS], tokens));
  graph.addInitializer(Tensor.fromBytes('never', 'bool', [], Uint8Array.of(0)));
  graph.addInitializer(Tensor.float32('naught', [], [0]));
  const [input] = graph.inputs as [(typeof graph.inputs)[number]];
  graph.nodes.push(node('ReduceSum', [input.name], 'input_sum', [int('keepdims', 0)]));
  let sum = `${output.name}_plain`;
  for (let i = 0; i < linears; i++) {
    graph.addInitializer(
      Tensor.float32(`blocks.${9 + i}.ffn.0.weight`, [CHANNELS, 4], new Float32Array(4 * CHANNELS).fill(0.1)),
    );
    graph.nodes.push(
      node('Add', ['odd_tokens', 'input_sum'], `odd_${i}`),
      node('MatMul', [`odd_${i}`, `blocks.${9 + i}.ffn.0.weight`], `product_${i}`),
      node('ReduceSum', [`product_${i}`], `sum_${i}`, [int('keepdims', 0)]),
      node('Where', ['never', `sum_${i}`, 'naught'], `masked_${i}`),
      node('Add', [sum, `masked_${i}`], i === linears - 1 ? output.name : `output_${i}`),
    );
    sum = `output_${i}`;
  }
  await saveModel(loaded.model, loaded, path.join(pipeline, 'transformer'));
  await loaded.close();
  return pipeline;
}

const run = (pipeline: string) =>
  calibrate({
    ...{ pipeline, output: `${pipeline}.safetensors`, syntheticInputs: 1, negativePrompt: '', steps: 1, guidance: 1 },
    ...{ seed: 1, buckets: 1, tokens: 'all', device: 'cpu' },
  });

describe('activations with infinities', () => {
  it('are counted, and the linears that read them stay as they are', async () => {
    const pipeline = await brokenPipeline(1);
    const { nonFinite, activations } = await run(pipeline);
    expect(activations).toBe(44);
    expect(nonFinite).toEqual([
      { value: 'odd_0', channels: 1, ofChannels: CHANNELS, samples: 2 * CHANNELS, nonFinite: 1 },
    ]);
    const { rows } = await planPipeline({
      ...{ pipeline, calibration: `${pipeline}.safetensors`, scheme: 'blocks', target: 'ort-cpu', method: 'minmax' },
      ...{ percentile: 99.9, keep: [] },
    });
    const [row, ...others] = rows.filter(({ reason }) => reason.startsWith(NOT_FINITE));
    expect(others).toEqual([]);
    expect(row).toMatchObject({
      ...{ input: 'odd_0', decision: 'keep', activation: null },
      reason: `${NOT_FINITE}: in 1 of 16 channels, 1 of 32 sampled values (3.13 %)`,
    });
    expect(rows.filter(({ decision }) => decision === 'int8').length).toBeGreaterThan(20);
  });

  it('end a calibration where more than a quarter of all have them', async () => {
    const pipeline = await brokenPipeline(15);
    await expect(run(pipeline)).rejects.toMatchObject({
      code: 'NON_FINITE',
      exitCode: 4,
      message:
        '15 of 58 activations hold NaN or infinity at prompt 1: odd_0 in 1 of 16 channels, 1 of 32 sampled values (3.13 %)',
    });
  });
});
