import { VaeEncoder } from '../../pipeline/vae.js';
import { type ClipSource, openClips } from '../clips/index.js';
import type { LatentClip } from '../runs.js';
import type { Workbench } from '../workbench.js';

/** The user's clips, and their latents in the scratch folder. */
export interface EncodedClips {
  readonly source: ClipSource;
  readonly latents: readonly LatentClip[];
}

/**
 * Opens the user's clips and encodes them with the reference's VAE.
 * @returns undefined where there are none
 * @throws WanqError CLIPS_INVALID, PIPELINE_INVALID without a VAE encoder
 */
export async function encodeClips(bench: Workbench): Promise<EncodedClips | undefined> {
  const { options, shape, scratch } = bench;
  if (options.clips === undefined) return undefined;
  const source = await openClips(options.clips, shape.video, options.signal);
  try {
    const latents = await bench.once('clips', () => {
      bench.begin('encoding clips', source.count);
      return bench.withHost(bench.vaeDevice, undefined, async (host, session) => {
        const encoder = await VaeEncoder.open(bench.reference, host, session);
        const encoded: LatentClip[] = [];
        for (const [i, prompt] of source.prompts.entries()) {
          const key = `clip${i}`;
          await bench.step(key, async () => scratch.put(key, await encoder.encode(await source.video(i))));
          encoded.push({ prompt, key });
          bench.tick();
        }
        return encoded;
      });
    });
    return { source, latents };
  } catch (error) {
    await source.close();
    throw error;
  }
}
