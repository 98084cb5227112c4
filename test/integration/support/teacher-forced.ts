import { randn } from '../../../src/numerics/rng.js';
import { difference, mean, sqnr } from '../../../src/numerics/stats.js';
import { type Denoiser, type DenoiserInput, runChain } from '../../../src/pipeline/denoise.js';
import { latentElements } from '../../../src/pipeline/geometry.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { describePipeline, openDenoiser } from '../../../src/pipeline/open.js';
import { readScheduler } from '../../../src/pipeline/schedulers/index.js';
import { encodePrompts, type PromptEmbeddings } from '../../../src/pipeline/text-encoder.js';
import type { RuntimeHost } from '../../../src/runtime/host.js';
import { CPU } from './graphs.js';

/** A call of the transformer on the way from noise, and what the reference made of it. */
export interface ForcedCall {
  readonly input: DenoiserInput;
  readonly velocity: Float32Array;
}

/** Every call of a pipeline's own chains, one chain for each prompt; the seed of prompt i is 1000 + i. */
export async function recordCalls(
  host: RuntimeHost,
  pipeline: string,
  prompts: readonly string[],
  { steps, guidance }: { readonly steps: number; readonly guidance: number },
): Promise<ForcedCall[]> {
  const folder = await PipelineFolder.open(pipeline);
  const makeScheduler = await readScheduler(folder);
  const embeddings = await encodePrompts(folder, host, CPU, [...prompts, '']);
  const textOf = (prompt: string): PromptEmbeddings => embeddings.get(prompt) as PromptEmbeddings;
  const { latents: shape } = await describePipeline(folder, {});
  return withDenoiser(host, pipeline, async (denoiser) => {
    const calls: ForcedCall[] = [];
    for (const [i, prompt] of prompts.entries()) {
      await runChain({
        scheduler: makeScheduler(steps),
        shape,
        noise: randn(1000 + i, latentElements(shape)),
        guidance,
        text: { cond: textOf(prompt), uncond: textOf('') },
        predict: async (asked) => {
          const made: Float32Array[] = [];
          for (const { input } of asked) {
            const { velocity } = await denoiser.predict(input);
            calls.push({ input: { ...input, latents: input.latents.slice() }, velocity });
            made.push(velocity);
          }
          return made;
        },
      });
    }
    return calls;
  });
}

/** SQNR of a pipeline's transformer on calls of its reference, dB: the mean over the calls and the worst. */
export async function forcedSqnr(
  host: RuntimeHost,
  pipeline: string,
  calls: readonly ForcedCall[],
): Promise<{ mean: number; worst: number }> {
  const figures = await withDenoiser(host, pipeline, async (denoiser) => {
    const made: number[] = [];
    for (const { input, velocity } of calls) {
      made.push(sqnr(difference(velocity, (await denoiser.predict(input)).velocity)));
    }
    return made;
  });
  return { mean: mean(figures), worst: Math.min(...figures) };
}

async function withDenoiser<T>(
  host: RuntimeHost,
  pipeline: string,
  work: (denoiser: Denoiser) => Promise<T>,
): Promise<T> {
  const folder = await PipelineFolder.open(pipeline);
  const shape = await describePipeline(folder, {});
  const denoiser = await openDenoiser(host, { path: folder.modelPath('transformer') }, CPU, shape);
  try {
    return await work(denoiser);
  } finally {
    await denoiser.session.release();
  }
}
