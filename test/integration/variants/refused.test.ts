import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { countLeftovers } from '../../../src/analyze/leftovers.js';
import { findLinears } from '../../../src/analyze/linears.js';
import { UNKNOWN_ROLE } from '../../../src/analyze/roles.js';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { planPipeline } from '../../../src/quantize/quantize.js';
import { unpackVariant } from '../../helpers/variants.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();

async function unpacked(name: string): Promise<string> {
  const pipeline = path.join(folder, name);
  await unpackVariant(name, pipeline);
  return pipeline;
}

const plan = (pipeline: string) =>
  planPipeline({
    ...{ pipeline, scheme: 'blocks', target: 'ort-cpu', method: 'kl', percentile: 99.999, keep: [] },
  });

describe('a graph that is quantized already', () => {
  it('is refused, and what gives it away is named', async () => {
    await expect(plan(await unpacked('quantized'))).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringMatching(/is quantized already \(it has (Q|Deq)uantizeLinear\)$/),
    });
  });
});

describe('a graph that is no Wan transformer', () => {
  it('cannot be calibrated, and the missing input is named', async () => {
    const pipeline = await unpacked('not-wan');
    const calibrated = calibrate({
      ...{ pipeline, output: `${pipeline}.safetensors`, syntheticInputs: 1, negativePrompt: '', steps: 1 },
      ...{ guidance: 1, seed: 1, buckets: 1, tokens: 'auto', device: 'cpu', frames: 9, height: 128, width: 192 },
    });
    await expect(calibrated).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringMatching(/has no input for latents/),
    });
  });

  it('has no roles, and is planned as linears that are all alike', async () => {
    const { knownModel, rows } = await plan(path.join(folder, 'not-wan'));
    expect(knownModel).toBe(false);
    expect(new Set(rows.map(({ role, decision }) => `${role} ${decision}`))).toEqual(new Set([`${UNKNOWN_ROLE} int8`]));
  });
});

describe('weights inside an operator that is no matrix product', () => {
  it('are listed with the operator, in the plan too', async () => {
    const pipeline = await unpacked('contrib-attention');
    const { graph } = await loadGraph(path.join(pipeline, 'transformer', 'model.onnx'));
    const expected = { operator: 'com.microsoft.Attention', why: expect.any(String), count: 2 };
    expect(countLeftovers(graph, findLinears(graph))).toEqual([expected]);
    const { leftovers, rows, knownModel } = await plan(pipeline);
    expect(leftovers).toEqual([expected]);
    expect(knownModel).toBe(true);
    expect(rows.filter(({ role }) => /attn1\.[qkv]/.test(role))).toEqual([]);
  });

  it('are listed where a product is inside the branches of an If', async () => {
    const { leftovers, rows } = await plan(await unpacked('subgraph-linear'));
    expect(leftovers).toEqual([{ operator: 'MatMul', why: 'inside a branch or body of If', count: 3 }]);
    expect(rows.some(({ role }) => role === 'blocks.1.attn1.v')).toBe(false);
  });
});
