import { Model } from '../../ir/graph.js';
import { VERSION } from '../../version.js';
import { Scope } from '../builder.js';
import { MODEL_CLASS, type WanConfig } from '../config.js';
import type { TimestepInput } from '../options.js';
import type { Size } from '../shapes.js';
import type { WeightSource } from '../weights.js';
import { block } from './block.js';
import { conditionEmbedder } from './condition-embedder.js';
import { output } from './output.js';
import { patchEmbedding } from './patch-embedding.js';
import { rotaryEmbedding } from './rotary.js';

/** Gelu came with opset 20; IR 10 is the version of its time. */
const OPSET = 20;
const IR_VERSION = 10;

/**
 * The ONNX model of a diffusers WanTransformer3DModel, computing in float32.
 *
 * Inputs, all float32: `hidden_states` `[batch, in, frames, height, width]`, `timestep` `[batch]` or `[batch, tokens]`,
 * `encoder_hidden_states` `[batch, text_length, textDim]`, and `encoder_hidden_states_image` in models that take one. Output: `out_sample`
 * `[batch, out, frames, height, width]`. All sizes but channels and features are free; the sides are multiples of the patch's.
 *
 * @param weights asked once for every tensor the model has, by the name diffusers saves it under
 */
export function buildTransformer(config: WanConfig, timestepInput: TimestepInput, weights: WeightSource): Model {
  const scope = Scope.root(weights);
  const latents = scope.input('hidden_states', 'float32', ['batch', config.inChannels, 'frames', 'height', 'width']);
  const timestep = scope.input('timestep', 'float32', timestepInput === 'batch' ? ['batch'] : ['batch', 'tokens']);
  const text = scope.input('encoder_hidden_states', 'float32', ['batch', 'text_length', config.textDim]);
  const image =
    config.imageDim === null
      ? undefined
      : scope.input('encoder_hidden_states_image', 'float32', [
          config.imagePositions === null ? 'batch' : 'images',
          'image_tokens',
          config.imageDim,
        ]);

  const { tokens, volume } = patchEmbedding(scope.in('patch_embedding'), latents, config);
  const rotation = rotaryEmbedding(scope.in('rope'), volume, config);
  const conditions = conditionEmbedder(scope.in('condition_embedder'), { timestep, text, image }, config);
  let x = tokens;
  for (let i = 0; i < config.layers; i++) x = block(scope.in(`blocks.${i}`), x, conditions, rotation, config);
  const velocity = output(scope, x, conditions.time, volume, config);

  const sides = (['frames', 'height', 'width'] as const).map((side, axis): Size => {
    const size = config.patch[axis] as number;
    return size === 1 ? side : `${size}*(${side}//${size})`;
  });
  const graph = scope.finish(MODEL_CLASS, velocity, {
    name: 'out_sample',
    dims: ['batch', config.outChannels, ...sides],
  });
  return new Model({
    irVersion: IR_VERSION,
    opsets: [{ domain: '', version: OPSET }],
    producer: `wanq ${VERSION}`,
    graph,
    metadata: new Map([
      ['wanq.version', VERSION],
      ['wanq.imported', MODEL_CLASS],
    ]),
  });
}
