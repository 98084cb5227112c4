import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { COMPONENTS, PipelineFolder } from '../pipeline/layout.js';
import { copyTree, exists } from '../util/files.js';

/** What an ONNX pipeline takes from a checkpoint as it is. */
const FROM_CHECKPOINT = ['model_index.json', 'config.json', 'tokenizer', 'scheduler'];

/** What is to be found in a pipeline folder and not in a checkpoint. */
const MODELS = COMPONENTS.filter((component) => component !== 'transformer');

/** Needed to make videos of prompts; `vae_encoder` serves evaluation on clips alone. */
const NEEDED = ['text_encoder', 'vae_decoder', 'tokenizer', 'scheduler'];

/** Copies the parts of a whole checkpoint that need no conversion, and the VAE's configuration, which tells latents from pixels. */
export async function copyCheckpointParts(checkpoint: string, target: string): Promise<void> {
  for (const name of FROM_CHECKPOINT) {
    const from = path.join(checkpoint, name);
    if (await exists(from)) await copyTree(from, path.join(target, name), false);
  }
  const vae = path.join(checkpoint, 'vae', 'config.json');
  if (!(await exists(vae))) return;
  await mkdir(path.join(target, 'vae'));
  await copyTree(vae, path.join(target, 'vae', 'config.json'), false);
}

/**
 * Takes what the output lacks from an ONNX pipeline folder.
 * @param link symbolic links instead of copies
 * @throws WanqError NOT_A_PIPELINE, PIPELINE_INVALID, NOT_FOUND
 */
export async function takeComponents(pipeline: string, target: string, link: boolean): Promise<void> {
  const folder = await PipelineFolder.open(pipeline);
  for (const name of [...MODELS, 'tokenizer', 'scheduler', 'model_index.json']) {
    const to = path.join(target, name);
    if ((await exists(folder.path(name))) && !(await exists(to))) await copyTree(folder.path(name), to, link);
  }
}

/** @returns what a pipeline folder needs to make videos, and this one lacks */
export async function lackingComponents(target: string): Promise<string[]> {
  const folder = await PipelineFolder.open(target);
  const present = await Promise.all(
    NEEDED.map((name) => {
      const model = MODELS.find((component) => component === name);
      return model ? folder.has(model) : exists(folder.path(name));
    }),
  );
  return NEEDED.filter((_, i) => !present[i]);
}
