import type { Video } from '../../pipeline/vae.js';

export interface WriteOptions {
  /** Frames a second, a whole number. */
  readonly fps: number;
  /** Text for the file's metadata, as {@link commentOf} makes it; absent: none is written. */
  readonly comment: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A file format of videos. */
export interface VideoWriter {
  /** @throws WanqError USAGE where the format cannot hold frames of this size */
  check?(size: Pick<Video, 'height' | 'width'>): void;
  /** @returns the file's bytes; the same for the same frames and options */
  encode(video: Video, options: WriteOptions): Promise<Uint8Array>;
}

/**
 * Durations of frames, ms, by when each ends, so that rounding never adds up: in hundredths of a second, frames of
 * 24 a second take 4, and every sixth of them 5.
 *
 * @param unit ms that durations are multiples of
 */
export function frameDurations(frames: number, fps: number, unit: number): number[] {
  const end = (frame: number): number => Math.round((frame * 1000) / fps / unit) * unit;
  return Array.from({ length: frames }, (_, i) => end(i + 1) - end(i));
}
