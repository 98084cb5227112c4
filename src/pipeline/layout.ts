import { stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { MAX_CONFIG_COUNT, MAX_SCALE_FACTOR } from '../limits.js';
import { exists } from '../util/files.js';
import { readJson } from '../util/json.js';
import type { ScaleFactors } from './geometry.js';

/** Parts of a text-to-video pipeline folder in optimum's ONNX layout. */
export const COMPONENTS = ['transformer', 'text_encoder', 'vae_decoder', 'vae_encoder'] as const;

/** What the plan of a quantized transformer is called, in the folder of its graph. */
export const PLAN_NAME = 'plan.json';

export type Component = (typeof COMPONENTS)[number];

const modelIndex = z.looseObject({ _class_name: z.string().optional(), expand_timesteps: z.boolean().optional() });

const count = z.int().positive().max(MAX_CONFIG_COUNT);
const side = z.int().positive().max(MAX_SCALE_FACTOR);

const transformerConfig = z.looseObject({
  num_layers: count.optional(),
  in_channels: count.optional(),
  num_attention_heads: count.optional(),
  attention_head_dim: count.optional(),
  patch_size: z.array(side).length(3).optional(),
});

const vaeConfig = z.looseObject({
  latents_mean: z.array(z.number()).max(MAX_CONFIG_COUNT),
  latents_std: z.array(z.number().positive()).max(MAX_CONFIG_COUNT),
  scale_factor_temporal: side.default(4),
  scale_factor_spatial: side.default(16),
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
   * @throws WanqError NOT_FOUND; NOT_A_PIPELINE where the folder has no transformer/model.onnx
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
    // A transformer alone is enough to calibrate and quantize; its model_index.json says nothing that wanq needs.
    const index = folder.path('model_index.json');
    const hasIndex = await exists(index);
    if (!(await folder.has('transformer'))) {
      const missing = hasIndex ? path.join('transformer', 'model.onnx') : 'model_index.json';
      throw new WanqError('NOT_A_PIPELINE', `${printable(root)} is not a pipeline folder: it has no ${missing}`, {
        hint,
      });
    }
    if (hasIndex) await readJson(index, modelIndex, 'PIPELINE_INVALID');
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

  /** Pixels of a latent: from the VAE's configuration, or Wan2.2-TI2V-5B's where the folder has no VAE. */
  async scaleFactors(): Promise<ScaleFactors> {
    const parts = ['vae_decoder', 'vae_encoder', 'vae'];
    const present = await Promise.all(parts.map((part) => exists(this.path(part))));
    if (!present.includes(true)) return { temporal: 4, spatial: 16 };
    const { scale_factor_temporal, scale_factor_spatial } = await this.vaeConfig();
    return { temporal: scale_factor_temporal, spatial: scale_factor_spatial };
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
