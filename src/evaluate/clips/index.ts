import { stat } from 'node:fs/promises';
import { fromSystemError } from '../../errors.js';
import { FolderClips } from './folder-clips.js';
import { SafetensorsClips } from './safetensors-clips.js';
import type { ClipSize, ClipSource } from './source.js';

export type { ClipSize, ClipSource } from './source.js';

/**
 * Opens a user's clips: a `.safetensors` file, or a folder of videos with a prompt beside each.
 *
 * @param size of the pipeline's videos, which every clip comes in
 * @param signal ends an ffmpeg that is reading a clip
 * @throws WanqError CLIPS_INVALID, SAFETENSORS_INVALID, NOT_FOUND, NOT_READABLE
 */
export async function openClips(source: string, size: ClipSize, signal?: AbortSignal): Promise<ClipSource> {
  const info = await stat(source).catch((error) => {
    throw fromSystemError(error, source);
  });
  return info.isDirectory() ? FolderClips.open(source, size, signal) : SafetensorsClips.open(source, size);
}
