import { randn } from '../numerics/rng.js';
import { type ChainStep, runChain, truncatesTimesteps } from '../pipeline/denoise.js';
import { latentElements } from '../pipeline/geometry.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import { openDenoiser, type PipelineShape } from '../pipeline/open.js';
import type { Scheduler } from '../pipeline/schedulers/index.js';
import { type PromptEmbeddings, TextEncoder } from '../pipeline/text-encoder.js';
import type { Video } from '../pipeline/vae.js';
import { RuntimeHost } from '../runtime/host.js';
import { providersFor } from '../runtime/providers.js';
import { Decoding } from './decoding.js';
import type { GenerateOptions, GenerateSummary, PartCost, Stage } from './options.js';
import { estimateFinished, writeStrip } from './preview.js';

type Costs = Pick<
  GenerateSummary,
  'textEncoder' | 'transformer' | 'vaeDecoder' | 'peakBytes' | 'scheduler' | 'truncatedTimesteps'
>;

/**
 * The chain of diffusers' WanPipeline: text encoder, transformer with guidance, VAE decoder. Each is in memory alone, in a process of its own;
 * with a preview the decoder stays beside the transformer.
 *
 * @param scheduler a fresh one
 * @throws WanqError PIPELINE_INVALID, MODEL_INVALID, MODEL_UNSUPPORTED, TOKENIZER_INVALID, NON_FINITE, and of the runtime
 */
export async function makeVideo(
  folder: PipelineFolder,
  shape: PipelineShape,
  scheduler: Scheduler,
  options: GenerateOptions,
): Promise<Costs & { readonly video: Video }> {
  const { prompt, negativePrompt, guidance, preview, signal } = options;
  const session = { providers: providersFor(options.device) };
  const { timesteps, sigmas } = scheduler;
  const tell = (stage: Stage, done: number): void => options.onProgress?.({ stage, done, total: timesteps.length });

  tell('text encoder', 0);
  const text = await alone(signal, async (host) => {
    const embeddings = new Map<string, PromptEmbeddings>();
    const encoder = await TextEncoder.open(folder);
    const provider = await encoder.encode(host, session, [prompt, negativePrompt], (of, encoded) => {
      embeddings.set(of, encoded);
    });
    const branch = (of: string): PromptEmbeddings => embeddings.get(of) as PromptEmbeddings;
    return { provider, result: { cond: branch(prompt), uncond: branch(negativePrompt) } };
  });

  const decoding = new Decoding(folder, shape.latents, session, signal);
  const show = async (step: number, of: ChainStep): Promise<void> => {
    const done = step + 1;
    if (!preview || done % preview.every !== 0 || done === timesteps.length) return;
    tell('preview', done);
    await writeStrip(preview.file, await decoding.decode(estimateFinished(of, sigmas[step] as number)));
  };
  try {
    tell('transformer', 0);
    let forwards = 0;
    const chain = await alone(signal, async (host) => {
      const denoiser = await openDenoiser(host, { path: folder.modelPath('transformer') }, session, shape);
      const latents = await runChain({
        scheduler,
        shape: shape.latents,
        noise: randn(options.seed, latentElements(shape.latents)),
        guidance,
        text: text.result,
        predict: async (calls) => {
          const velocities: Float32Array[] = [];
          for (const { input } of calls) velocities.push((await denoiser.predict(input)).velocity);
          forwards += calls.length;
          return velocities;
        },
        onStep: async (step, _, of) => {
          await show(step, of);
          tell('transformer', step + 1);
        },
      });
      return { provider: denoiser.session.info.provider, result: latents };
    });
    const beside = decoding.loaded;
    tell('vae decoder', timesteps.length);
    const video = await decoding.decode(chain.result);
    const vaeDecoder = await decoding.cost();
    const denoising = [chain.cost.peakBytes, vaeDecoder.peakBytes];
    return {
      video,
      scheduler: scheduler.name,
      truncatedTimesteps: truncatesTimesteps(shape.signature) && !timesteps.every(Number.isInteger),
      textEncoder: text.cost,
      transformer: { ...chain.cost, forwards },
      vaeDecoder,
      peakBytes: Math.max(text.cost.peakBytes, beside ? denoising.reduce((a, b) => a + b) : Math.max(...denoising)),
    };
  } finally {
    await decoding.close();
  }
}

/** Runs one component in a process that is gone afterwards. */
async function alone<T>(
  signal: AbortSignal | undefined,
  use: (host: RuntimeHost) => Promise<{ provider: string; result: T }>,
): Promise<{ result: T; cost: PartCost }> {
  const began = performance.now();
  const host = new RuntimeHost({ signal });
  try {
    const { provider, result } = await use(host);
    const { peakBytes } = await host.status();
    return { result, cost: { provider, ms: performance.now() - began, peakBytes } };
  } finally {
    await host.close();
  }
}
