import { WanqError } from '../../errors.js';
import type { Video } from '../../pipeline/vae.js';

/** Frames and pixels of a clip. */
export type ClipSize = Pick<Video, 'frames' | 'height' | 'width'>;

/** Real videos of one size, each with the prompt that describes it. One is in memory at a time. */
export interface ClipSource {
  readonly count: number;
  /** One for each clip. */
  readonly prompts: readonly string[];
  /** @throws WanqError CLIPS_INVALID naming the clip */
  video(index: number): Promise<Video>;
  close(): Promise<void>;
}

export function invalid(message: string, hint: string, cause?: unknown): WanqError {
  return new WanqError('CLIPS_INVALID', message, { hint, cause });
}
