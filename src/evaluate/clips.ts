import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import type { Video } from '../pipeline/vae.js';
import { readSafetensors } from '../util/safetensors.js';

/** A real video and the prompt that describes it. */
export interface Clip {
  readonly video: Video;
  readonly prompt: string;
}

/**
 * Clips of a `.safetensors` file: `clips` U8 `[N, frames, height, width, 3]`, metadata `prompts`, a JSON list of N texts.
 * @throws WanqError CLIPS_INVALID, SAFETENSORS_INVALID, NOT_FOUND
 */
export async function readClips(file: string): Promise<Clip[]> {
  const { tensors, metadata } = await readSafetensors(file);
  const fail = (why: string): never => {
    throw new WanqError('CLIPS_INVALID', `${printable(file)} ${why}`, {
      hint: 'it needs `clips` U8 [N, frames, height, width, 3] and a JSON list of N `prompts` in its metadata',
    });
  };
  const clips = tensors.get('clips');
  if (clips?.dtype !== 'U8' || clips.shape.length !== 5 || clips.shape[4] !== 3) return fail('holds no clips');
  const [count, frames, height, width] = clips.shape as [number, number, number, number];
  let json: unknown;
  try {
    json = JSON.parse(metadata.prompts ?? '');
  } catch {
    return fail('has no readable list of prompts');
  }
  const prompts = z.array(z.string()).length(count).safeParse(json);
  if (!prompts.success || count === 0) return fail(`needs one prompt for each of its ${count} clips`);
  const size = frames * height * width * 3;
  const data = clips.data as Uint8Array;
  return prompts.data.map((prompt, i) => ({
    prompt,
    video: { data: data.subarray(i * size, (i + 1) * size), frames, height, width },
  }));
}
