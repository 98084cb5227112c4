import { type Difference, difference } from '../numerics/stats.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import type { PipelineShape } from '../pipeline/open.js';
import { VaeDecoder, VaeEncoder, type Video } from '../pipeline/vae.js';
import type { Results } from '../report/results.js';
import type { Scratch } from '../util/scratch.js';
import { psnr } from './metrics/psnr.js';
import { ssim } from './metrics/ssim.js';
import { keys } from './stages/models.js';
import type { Workbench } from './workbench.js';

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

/**
 * Holds the VAE decoder alone, and the whole quantized pipeline, against the reference's videos.
 *
 * @param decodes whether the quantized pipeline's decoder is another than the reference's
 * @param model whose latents the whole pipeline's are
 * @param transformer PSNR of the quantized transformer's videos, through the reference's text encoder and VAE
 */
export function componentVideos(
  bench: Workbench,
  kept: KeptVideos,
  { decodes, model, transformer }: { decodes: boolean; model: string; transformer: readonly (number | null)[] },
): Promise<NonNullable<Results['components']>['videos']> {
  const { shape, scratch, inspected } = bench;
  return bench.withHost(bench.vaeDevice, 'vae_decoder of the quantized pipeline', async (host, session) => {
    const decoder = await VaeDecoder.open(decodes ? bench.quantized : bench.reference, host, session);
    const decode = async (key: string): Promise<Video> => decoder.decode(await scratch.get(key), shape.latents);
    const rows = [];
    for (const [i, take] of inspected.entries()) {
      const truth = await kept.get(i);
      const together = await decode(keys.take(model, i));
      rows.push({
        ...take,
        transformerPsnr: transformer[i] ?? null,
        vaePsnr: decodes ? psnr(truth.data, (await decode(keys.take('reference', i))).data) : null,
        pipelinePsnr: psnr(truth.data, together.data),
        pipelineSsim: ssim(truth, together),
      });
      bench.tick();
    }
    return rows;
  });
}

/** Both VAE encoders on the reference's videos, one after the other. @returns errors of the latents of each video */
export async function encoderErrors(bench: Workbench, kept: KeptVideos): Promise<Difference[]> {
  const encode = (
    folder: PipelineFolder,
    label: string | undefined,
    use: (i: number, of: Float32Array) => Promise<void>,
  ) =>
    bench.withHost(bench.vaeDevice, label, async (host, session) => {
      const encoder = await VaeEncoder.open(folder, host, session);
      for (let i = 0; i < kept.count; i++) {
        await use(i, await encoder.encode(await kept.get(i)));
        bench.tick();
      }
    });
  const errors: Difference[] = [];
  const keyOf = (i: number): string => `encoded${i}`;
  await encode(bench.reference, undefined, (i, latents) => bench.scratch.put(keyOf(i), latents));
  await encode(bench.quantized, 'vae_encoder of the quantized pipeline', async (i, latents) => {
    errors.push(difference(await bench.scratch.get(keyOf(i)), latents));
  });
  return errors;
}
