import { stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { exists } from '../util/files.js';
import { readJson } from '../util/json.js';

/** Parts of a text-to-video pipeline folder in optimum's ONNX layout. */
export const COMPONENTS = ['transformer', 'text_encoder', 'vae_decoder', 'vae_encoder'] as const;

export type Component = (typeof COMPONENTS)[number];

const modelIndex = z.looseObject({ _class_name: z.string().optional(), expand_timesteps: z.boolean().optional() });

const transformerConfig = z.looseObject({
  num_layers: z.int().positive().optional(),
  in_channels: z.int().positive().optional(),
  num_attention_heads: z.int().positive().optional(),
  attention_head_dim: z.int().positive().optional(),
  patch_size: z.array(z.int().positive()).length(3).optional(),
});

const vaeConfig = z.looseObject({
  latents_mean: z.array(z.number()),
  latents_std: z.array(z.number().positive()),
  scale_factor_temporal: z.int().positive().default(4),
  scale_factor_spatial: z.int().positive().default(16),
});

export type TransformerConfig = z.infer<typeof transformerConfig>;
export type VaeConfig = z.infer<typeof vaeConfig>;

/** A pipeline folder: `model_index.json` and one folder for each component. */
export class PipelineFolder {
  readonly root: string;

  private constructor(root: string) {
    this.root = root;
  }

  /**
   * @throws WanqError NOT_FOUND; NOT_A_PIPELINE where the folder has no model_index.json or no transformer/model.onnx
   */
  static async open(root: string): Promise<PipelineFolder> {
    const info = await stat(root).catch((error) => {
      throw fromSystemError(error, root);
    });
    const hint = 'name a folder with model_index.json and transformer/model.onnx, as optimum exports it';
    if (!info.isDirectory()) {
      throw new WanqError('NOT_A_PIPELINE', `${printable(root)} is a file, not a pipeline folder`, { hint });
    }
    const folder = new PipelineFolder(root);
    for (const part of ['model_index.json', path.join('transformer', 'model.onnx')]) {
      if (await exists(path.join(root, part))) continue;
      throw new WanqError('NOT_A_PIPELINE', `${printable(root)} is not a pipeline folder: it has no ${part}`, { hint });
    }
    await readJson(folder.path('model_index.json'), modelIndex, 'PIPELINE_INVALID');
    return folder;
  }

  path(...parts: string[]): string {
    return path.join(this.root, ...parts);
  }

  modelPath(component: Component): string {
    return this.path(component, 'model.onnx');
  }

  has(component: Component): Promise<boolean> {
    return exists(this.modelPath(component));
  }

  /** @throws WanqError PIPELINE_INVALID naming the command's need */
  async require(component: Component, need: string): Promise<string> {
    if (await this.has(component)) return this.modelPath(component);
    throw new WanqError('PIPELINE_INVALID', `${printable(this.root)} has no ${component}/model.onnx`, {
      hint: `${need} needs it`,
    });
  }

  /** @throws WanqError PIPELINE_INVALID where a file that every pipeline has is missing */
  async requireFile(...parts: string[]): Promise<string> {
    const file = this.path(...parts);
    if (await exists(file)) return file;
    throw new WanqError('PIPELINE_INVALID', `${printable(this.root)} has no ${parts.join('/')}`, {
      hint: 'copy it from the checkpoint',
    });
  }

  async transformerConfig(): Promise<TransformerConfig> {
    const file = this.path('transformer', 'config.json');
    return (await exists(file)) ? readJson(file, transformerConfig, 'PIPELINE_INVALID') : {};
  }

  /** Latent statistics and scale factors; from the decoder's configuration, else the encoder's. */
  async vaeConfig(): Promise<VaeConfig> {
    const files = ['vae_decoder', 'vae_encoder', 'vae'].map((part) => this.path(part, 'config.json'));
    for (const file of files) if (await exists(file)) return readJson(file, vaeConfig, 'PIPELINE_INVALID');
    throw new WanqError('PIPELINE_INVALID', `${printable(this.root)} has no vae_decoder/config.json`, {
      hint: 'it holds latents_mean and latents_std; copy it from the checkpoint',
    });
  }
}
