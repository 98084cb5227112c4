import { freemem } from 'node:os';
import path from 'node:path';
import { deriveSeed, randn } from '../numerics/rng.js';
import { difference, sqnr } from '../numerics/stats.js';
import { checkSaved } from '../onnx/check.js';
import { loadGraph } from '../onnx/load.js';
import type { WeightNote } from '../onnx/quantized-numbers.js';
import type { DenoiserInput, TransformerFace } from '../pipeline/denoise.js';
import { latentElements } from '../pipeline/geometry.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import { openDenoiser } from '../pipeline/open.js';
import { fixedDim, transformerSignature } from '../pipeline/signature.js';
import { RuntimeHost } from '../runtime/host.js';
import { LOAD_ONLY, RUN_UP_TO_BYTES } from '../runtime/load-only.js';
import type { Verification } from './options.js';

/** onnxruntime may hold a model's weights twice while it packs them. */
const MEMORY_FACTOR = 2.5;

export interface Verified {
  readonly ran: boolean;
  /**
   * The written model against the original on one small random input: signal to noise, dB. null where it was not run, or the original does not
   * fit into memory.
   */
  readonly sqnr: number | null;
  /** Quantized weights with channels of zeros, or of one weight that is far larger than all others. */
  readonly odd: readonly WeightNote[];
}

/** A written model, the original it came of, and how to run either. */
export interface Verifiable {
  readonly original: string;
  readonly written: string;
  /** Weights of the original. */
  readonly bytesBefore: number;
  readonly how: Verification;
  readonly signal: AbortSignal | undefined;
  /** Runs a model file on one small input. */
  run(host: RuntimeHost, file: string): Promise<Float32Array>;
}

/**
 * Checks a written model before its folder gets its name.
 *
 * @throws WanqError RUNTIME_FAILED where onnxruntime does not take it
 */
export async function verifyModel(model: Verifiable): Promise<Verified> {
  const { original, written, bytesBefore, how, signal, run } = model;
  const odd = await checkSaved(written, await loadGraph(original));
  const runs = how === 'run' || (how === 'auto' && bytesBefore <= RUN_UP_TO_BYTES);
  const host = new RuntimeHost({ signal });
  try {
    if (!runs) {
      const session = await host.createSession({ path: written }, LOAD_ONLY);
      await session.release();
      return { ran: false, sqnr: null, odd };
    }
    const quantized = await run(host, written);
    if (bytesBefore * MEMORY_FACTOR > freemem()) return { ran: true, sqnr: null, odd };
    return { ran: true, sqnr: sqnr(difference(await run(host, original), quantized)), odd };
  } finally {
    await host.close();
  }
}

/**
 * Checks a written transformer.
 *
 * @param target the written pipeline folder
 * @param bytesBefore weights of the original
 * @throws WanqError as {@link verifyModel}
 */
export function verify(
  source: PipelineFolder,
  target: string,
  bytesBefore: number,
  how: Verification,
  signal: AbortSignal | undefined,
): Promise<Verified> {
  return verifyModel({
    original: source.modelPath('transformer'),
    written: path.join(target, 'transformer', 'model.onnx'),
    bytesBefore,
    how,
    signal,
    run: async (host, file) => {
      const { face, input } = await smallInput(source);
      const denoiser = await openDenoiser(host, { path: file }, { providers: ['cpu'] }, face);
      const { velocity } = await denoiser.predict(input);
      await denoiser.session.release();
      return velocity;
    },
  });
}

/** A random input of the smallest size the graph takes. */
async function smallInput(source: PipelineFolder): Promise<{ face: TransformerFace; input: DenoiserInput }> {
  const file = source.modelPath('transformer');
  const signature = transformerSignature((await loadGraph(file)).graph, file);
  const { patch_size: patch = [1, 2, 2], in_channels } = await source.transformerConfig();
  const side = (axis: number, small: number): number => fixedDim(signature.latents, axis) ?? small;
  const latents = {
    channels: fixedDim(signature.latents, 1) ?? in_channels ?? 48,
    frames: side(2, 2),
    height: side(3, 2 * (patch[1] as number)),
    width: side(4, 2 * (patch[2] as number)),
  };
  const text = { length: fixedDim(signature.text, 1) ?? 8, features: fixedDim(signature.text, 2) ?? 4096 };
  return {
    face: { signature, patch: [patch[1] as number, patch[2] as number] },
    input: {
      shape: latents,
      latents: randn(1, latentElements(latents)),
      timestep: 500,
      text: { ...text, data: randn(deriveSeed(1, 2), text.length * text.features) },
    },
  };
}
