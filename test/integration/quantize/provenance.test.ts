import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/calibrate/calibrate.js';
import { readCalibration } from '../../../src/calibrate/file.js';
import { loadGraph, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { planPipeline, quantize } from '../../../src/quantize/quantize.js';
import { copyTree } from '../../../src/util/files.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';

const choice = { scheme: 'ffn', target: 'ort-cpu', method: 'kl', percentile: 99.999, keep: [] } as const;

let work: string;
let pipeline: string;

/** The micro pipeline with its transformer's weights in external data, as the 5B has them. */
beforeAll(async () => {
  work = await mkdtemp(path.join(tmpdir(), 'wanq-provenance-'));
  pipeline = path.join(work, 'pipeline');
  await copyTree(MICRO_PIPELINE, pipeline, false);
  const transformer = path.join(pipeline, 'transformer');
  const loaded = await loadModel(path.join(transformer, 'model.onnx'));
  await rm(path.join(transformer, 'model.onnx'));
  await saveModel(loaded.model, loaded, transformer);
  await loaded.close();
});

afterAll(() => rm(work, { recursive: true, force: true }));

describe('a model with external data', () => {
  it('is named in what was made of it by the fingerprint its calibration has', async () => {
    const calibration = path.join(work, 'calibration.safetensors');
    const output = path.join(work, 'int8');
    const sampling = { steps: 1, guidance: 1, seed: 0, negativePrompt: '', device: 'cpu' } as const;
    await calibrate({
      ...sampling,
      pipeline,
      prompts: ['a red ring'],
      output: calibration,
      buckets: 1,
      tokens: 'auto',
    });
    await quantize({ ...choice, pipeline, calibration, output, link: true });
    const { metadata } = await loadGraph(path.join(output, 'transformer', 'model.onnx'));
    const { identity } = await readCalibration(calibration);
    expect(metadata.get('wanq.source')).toBe(identity.model);
  });

  it('is planned without a calibration from its graph alone', async () => {
    const graphOnly = path.join(work, 'graph-only');
    await copyTree(pipeline, graphOnly, false);
    await rm(path.join(graphOnly, 'transformer', 'model.onnx_data'));
    const { rows } = await planPipeline({ ...choice, pipeline: graphOnly });
    expect(rows.filter(({ decision }) => decision === 'int8')).toHaveLength(12);
  });
});
