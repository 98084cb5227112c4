import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { encodeModel } from '../../../src/onnx/codec.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { Target } from '../../../src/quantize/target.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { syntheticCalibration } from '../support/calibration.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();
const calibration = path.join(folder, 'calibration.safetensors');

beforeAll(() => syntheticCalibration(MICRO_PIPELINE, calibration), 60_000);

/** SHA-256 of the graph without wanq's version, and of the weights. */
async function hashes(target: Target): Promise<{ graph: string; data: string }> {
  const output = path.join(folder, target);
  await quantize({
    ...{ scheme: 'blocks', target, method: 'auto', smooth: 'auto', percentile: 99.999, keep: [], link: true },
    ...{ pipeline: MICRO_PIPELINE, calibration, output, verify: 'load' },
  });
  const file = path.join(output, 'transformer', 'model.onnx');
  const model = await loadGraph(file);
  model.metadata.delete('wanq.version');
  const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  return { graph: hash(encodeModel(model)), data: hash(await readFile(`${file}_data`)) };
}

// Other processors may round logarithms and powers otherwise.
describe.runIf(process.arch === 'x64')('the same inputs give the same bits on every Node', () => {
  it.each([
    ['ort-cpu', { graph: 'c977b0c1e59b327b', data: 'cd743698bcfada3e' }],
    ['tensorrt', { graph: '09bcd894161833ef', data: 'd1fc71a3d0233824' }],
    ['ort-cuda', { graph: '78954308a12a4808', data: 'fb7193ae26297d68' }],
  ] as const)(
    'for %s',
    async (target, expected) => {
      expect(await hashes(target)).toEqual(expected);
    },
    60_000,
  );
});
