import { type Difference, difference } from '../numerics/stats.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import type { PipelineShape } from '../pipeline/open.js';
import { VaeDecoder, VaeEncoder, type Video } from '../pipeline/vae.js';
import type { Results } from '../report/results.js';
import { RuntimeHost } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import type { Scratch } from '../util/scratch.js';
import { psnr } from './metrics/psnr.js';
import { ssim } from './metrics/ssim.js';
import type { Take } from './runs.js';

/** The reference pipeline's videos, in a scratch folder until another decoder or encoder has been opened. */
export class KeptVideos {
  readonly #scratch: Scratch;
  readonly #size: PipelineShape['video'];
  /** How many are kept. */
  readonly count: number;

  constructor(scratch: Scratch, size: PipelineShape['video'], count: number) {
    this.#scratch = scratch;
    this.#size = size;
    this.count = count;
  }

  async keep(index: number, { data }: Video): Promise<void> {
    if (index < this.count) await this.#scratch.putBytes(`video${index}.rgb`, data);
  }

  async get(index: number): Promise<Video> {
    return { ...this.#size, data: await this.#scratch.getBytes(`video${index}.rgb`) };
  }
}

/** How the components of a pipeline are opened. */
export interface ComponentContext {
  readonly shape: PipelineShape;
  readonly session: SessionOptions;
  readonly signal: AbortSignal | undefined;
  readonly kept: KeptVideos;
  /** Called after every video. */
  onVideo(): void;
}

/** Latents of the inspected takes. */
export interface ComponentLatents {
  readonly takes: readonly Take[];
  readonly reference: readonly Float32Array[];
  readonly pipeline: readonly Float32Array[];
  /** PSNR of the quantized transformer's videos, through the reference's text encoder and VAE. */
  readonly transformer: readonly (number | null)[];
}

/**
 * Holds the VAE decoder alone, and the whole quantized pipeline, against the reference's videos.
 *
 * @param folder pipeline whose decoder decodes
 * @param alone whether that is another than the reference's
 */
export async function componentVideos(
  folder: PipelineFolder,
  alone: boolean,
  { takes, reference, pipeline, transformer }: ComponentLatents,
  { shape, session, signal, kept, onVideo }: ComponentContext,
): Promise<NonNullable<Results['components']>['videos']> {
  const host = new RuntimeHost({ signal });
  try {
    const decoder = await VaeDecoder.open(folder, host, session);
    const decode = (latents: Float32Array | undefined): Promise<Video> =>
      decoder.decode(latents as Float32Array, shape.latents);
    const rows = [];
    for (const [i, take] of takes.entries()) {
      const truth = await kept.get(i);
      const together = await decode(pipeline[i]);
      rows.push({
        ...take,
        transformerPsnr: transformer[i] ?? null,
        vaePsnr: alone ? psnr(truth.data, (await decode(reference[i])).data) : null,
        pipelinePsnr: psnr(truth.data, together.data),
        pipelineSsim: ssim(truth, together),
      });
      onVideo();
    }
    return rows;
  } finally {
    await host.close();
  }
}

/** Both VAE encoders on the reference's videos, one after the other. @returns errors of the latents of each video */
export async function encoderErrors(
  reference: PipelineFolder,
  quantized: PipelineFolder,
  { session, signal, kept, onVideo }: ComponentContext,
): Promise<Difference[]> {
  const encode = async (folder: PipelineFolder): Promise<Float32Array[]> => {
    const host = new RuntimeHost({ signal });
    try {
      const encoder = await VaeEncoder.open(folder, host, session);
      const latents: Float32Array[] = [];
      for (let i = 0; i < kept.count; i++) {
        latents.push(await encoder.encode(await kept.get(i)));
        onVideo();
      }
      return latents;
    } finally {
      await host.close();
    }
  };
  const expected = await encode(reference);
  const encoded = await encode(quantized);
  return expected.map((latents, i) => difference(latents, encoded[i] as Float32Array));
}
