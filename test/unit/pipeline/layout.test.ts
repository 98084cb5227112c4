import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MAX_CONFIG_COUNT, MAX_SCALE_FACTOR } from '../../../src/limits.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { describePipeline } from '../../../src/pipeline/open.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

async function folderWith(configs: Readonly<Record<string, unknown>>): Promise<PipelineFolder> {
  const root = await temporaryFolder();
  const write = async (file: string, text: string): Promise<void> => {
    await mkdir(path.dirname(path.join(root, file)), { recursive: true });
    await writeFile(path.join(root, file), text);
  };
  await write('transformer/model.onnx', '');
  for (const [file, config] of Object.entries({ 'model_index.json': {}, ...configs })) {
    await write(file, typeof config === 'string' ? config : JSON.stringify(config));
  }
  return PipelineFolder.open(root);
}

const VAE = { latents_mean: [0], latents_std: [1] };

describe('PipelineFolder refuses', () => {
  it.each<[string, unknown]>([
    ['a configuration that is a list', []],
    ['a class name that is a number', { _class_name: 5 }],
    ['a key __proto__', '{"__proto__":{"expand_timesteps":true}}'],
    ['a configuration without an end', '['.repeat(100_000)],
  ])('a model_index.json with %s', async (_, index) => {
    await expectRejection(folderWith({ 'model_index.json': index }), 'PIPELINE_INVALID');
  });

  it.each<[string, object]>([
    ['no channels', { in_channels: 0 }],
    ['more channels than any', { in_channels: MAX_CONFIG_COUNT + 1 }],
    ['2^53 layers', { num_layers: 2 ** 53 }],
    ['half a head', { num_attention_heads: 1.5 }],
    ['a patch of two sides', { patch_size: [1, 2] }],
    ['a patch larger than any', { patch_size: [1, 2, MAX_SCALE_FACTOR + 1] }],
  ])('a transformer of %s', async (_, config) => {
    const folder = await folderWith({ 'transformer/config.json': config });
    await expectRejection(folder.transformerConfig(), 'PIPELINE_INVALID');
  });

  it.each<[string, object | string]>([
    ['a standard deviation of 0', { ...VAE, latents_std: [0] }],
    ['a mean of 1e400', '{"latents_mean":[1e400],"latents_std":[1]}'],
    ['a mean that is text', { ...VAE, latents_mean: ['0'] }],
    ['more channels than any', { ...VAE, latents_mean: new Array(MAX_CONFIG_COUNT + 1).fill(0) }],
    ['a scale factor larger than any', { ...VAE, scale_factor_spatial: MAX_SCALE_FACTOR + 1 }],
    ['a scale factor of 0', { ...VAE, scale_factor_temporal: 0 }],
  ])('a VAE of %s', async (_, config) => {
    const folder = await folderWith({ 'vae_decoder/config.json': config });
    await expectRejection(folder.vaeConfig(), 'PIPELINE_INVALID');
  });
});

it('describePipeline refuses latents that no memory holds', async () => {
  const root = await temporaryFolder();
  await cp(MICRO_PIPELINE, root, { recursive: true });
  // Its graph fixes a size.
  await rm(path.join(root, 'vae_decoder', 'model.onnx'));
  const folder = await PipelineFolder.open(root);
  const size = { frames: 4_000_001, height: 8192, width: 8192 };
  await expect(describePipeline(folder, size)).rejects.toMatchObject({
    code: 'PIPELINE_INVALID',
    message: expect.stringContaining('too large'),
  });
});
