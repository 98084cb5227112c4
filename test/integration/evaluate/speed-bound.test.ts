import path from 'node:path';
import { expect, it } from 'vitest';
import { speedBound } from '../../../src/evaluate/speed-bound.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { describePipeline } from '../../../src/pipeline/open.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { Target } from '../../../src/quantize/target.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const folder = temporaryFolder();

it.each<[Target, boolean]>([
  ['ort-cuda', true],
  ['webgpu', false],
])('a model for %s speeds up if integer products are faster: %s', async (target, speedsUp) => {
  const output = path.join(folder, target);
  const plan = { scheme: 'ffn', method: 'minmax', percentile: 99.99, keep: [] } as const;
  await quantize({ pipeline: MICRO_PIPELINE, output, link: true, target, ...plan, verify: 'load' });
  const [reference, quantized] = await Promise.all(
    [MICRO_PIPELINE, output].map((pipeline) => PipelineFolder.open(pipeline)),
  );
  if (!reference || !quantized) throw new Error('two pipelines are needed');
  const { value } = await speedBound(reference, quantized, await describePipeline(reference, {}), 32);
  if (speedsUp) expect(value).toBeGreaterThan(1.2);
  else expect(value).toBe(1);
});
