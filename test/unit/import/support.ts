import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readConfig, type WanConfig } from '../../../src/import/config.js';
import { buildTransformer } from '../../../src/import/model/transformer.js';
import type { WeightSource } from '../../../src/import/weights.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';

/** A transformer of a few kilobytes, as its `config.json` describes it. */
export const TINY = {
  _class_name: 'WanTransformer3DModel',
  _diffusers_version: '0.42.1',
  num_attention_heads: 2,
  attention_head_dim: 8,
  in_channels: 3,
  out_channels: 3,
  text_dim: 5,
  freq_dim: 4,
  ffn_dim: 7,
  num_layers: 2,
  rope_max_seq_len: 16,
};

export type RawConfig = Readonly<Record<string, unknown>>;

/** What a configuration comes out as when it is read. */
export async function configOf(raw: RawConfig): Promise<WanConfig> {
  const folder = await mkdtemp(path.join(tmpdir(), 'wanq-unit-'));
  try {
    const file = path.join(folder, 'config.json');
    await writeFile(file, JSON.stringify(raw));
    return await readConfig(file);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The tensors a model asks for, by name. */
export function askedWeights(config: WanConfig): Map<string, readonly number[]> {
  const asked = new Map<string, readonly number[]>();
  buildTransformer(config, 'batch', recording(asked));
  return asked;
}

/** Gives every weight that is asked for, and notes it. */
export function recording(asked: Map<string, readonly number[]> = new Map()): WeightSource {
  return {
    take: (name, dims) => {
      if (asked.has(name)) throw new Error(`${name} was asked for twice`);
      asked.set(name, dims);
      const length = 4 * dims.reduce((a, b) => a * b, 1);
      return new Tensor(name, 'float32', dims, { kind: 'external', location: 'w.safetensors', offset: 0, length });
    },
  };
}

export type Tensors = Map<string, SafeTensor>;

export function f32(shape: readonly number[]): SafeTensor {
  return { dtype: 'F32', shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.125) };
}

export async function writeTensors(file: string, tensors: Tensors): Promise<void> {
  await writeSafetensors(file, { metadata: { format: 'pt' }, tensors });
}

/**
 * Writes a checkpoint of {@link TINY} and returns its transformer's folder.
 * @param change edits the tensors before they are written
 */
export async function tinyCheckpoint(folder: string, change: (tensors: Tensors) => void = () => {}): Promise<string> {
  const transformer = path.join(folder, 'transformer');
  await mkdir(transformer, { recursive: true });
  await writeFile(path.join(transformer, 'config.json'), JSON.stringify(TINY));
  const config = await configOf(TINY);
  const tensors: Tensors = new Map([...askedWeights(config)].map(([name, dims]) => [name, f32(dims)]));
  change(tensors);
  await writeTensors(path.join(transformer, 'diffusion_pytorch_model.safetensors'), tensors);
  return transformer;
}
