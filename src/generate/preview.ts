import type { ChainStep } from '../pipeline/denoise.js';
import type { Video } from '../pipeline/vae.js';
import { writeAtomic } from '../util/files.js';
import { frameGrid, spreadFrames } from './frames.js';

const COLUMNS = 6;

/** What the chain takes the finished latents to be at one of its steps: x0 = x - sigma v, of x = (1 - sigma) x0 + sigma noise. */
export function estimateFinished({ sample, velocity }: ChainStep, sigma: number): Float32Array {
  return sample.map((x, i) => x - sigma * (velocity[i] as number));
}

/** Writes frames spread evenly over a video, side by side. @throws WanqError as {@link writeAtomic} */
export async function writeStrip(file: string, video: Video): Promise<void> {
  const chosen = spreadFrames(video.frames, COLUMNS);
  await writeAtomic(file, [await frameGrid(video, chosen, chosen.length)]);
}
