import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { psnr } from '../../../src/evaluate/metrics/psnr.js';
import { commentOf, TOOL } from '../../../src/generate/provenance.js';
import { mp4Writer } from '../../../src/generate/writers/mp4.js';
import { readSafetensors } from '../../../src/util/safetensors.js';
import { decode, hasFfmpeg, probe } from '../../helpers/ffmpeg.js';
import { MICRO } from '../../helpers/fixtures.js';
import { HOSTILE_PROMPTS, movingSquare } from '../../helpers/videos.js';
import { temporaryFolder } from '../support/environment.js';

const present = hasFfmpeg();
const folder = temporaryFolder();

describe.runIf(present)('ffmpeg, of an MP4 that wanq wrote,', () => {
  it('decodes the frames of a clip', async () => {
    const { tensors } = await readSafetensors(path.join(MICRO, 'clips.safetensors'));
    const clips = tensors.get('clips')?.data as Uint8Array;
    const data = clips.subarray(0, 17 * 128 * 128 * 3);
    const bytes = await mp4Writer.encode({ data, frames: 17, height: 128, width: 128 }, { fps: 8, comment: undefined });
    const file = path.join(folder, 'clip.mp4');
    await writeFile(file, bytes);
    expect(psnr(data, decode(file))).toBeGreaterThan(35);
    const { stream, tags } = probe(file);
    expect(stream).toMatchObject({
      codec_name: 'h264',
      width: 128,
      height: 128,
      r_frame_rate: '8/1',
      nb_read_frames: '17',
      color_range: 'tv',
      color_space: 'bt709',
    });
    expect(tags).not.toHaveProperty('comment');
  });

  // Neither side is a multiple of a macroblock.
  it.each([
    [24, 90, 134],
    [30, 50, 80],
    [1, 34, 62],
  ])('plays %i frames a second of %i x %i', async (fps, height, width) => {
    const video = movingSquare(9, height, width);
    const file = path.join(folder, `${fps}.mp4`);
    await writeFile(file, await mp4Writer.encode(video, { fps, comment: undefined }));
    expect(probe(file).stream).toMatchObject({ width, height, r_frame_rate: `${fps}/1`, nb_read_frames: '9' });
    expect(psnr(video.data, decode(file))).toBeGreaterThan(30);
  });

  it.each(HOSTILE_PROMPTS)('shows its prompt: %s', async (_, prompt) => {
    const comment = commentOf({
      ...{ prompt, negativePrompt: '', seed: 7, steps: 2, guidance: 3, scheduler: 's', precision: 'FP32' },
    });
    const file = path.join(folder, 'prompt.mp4');
    await writeFile(file, await mp4Writer.encode(movingSquare(2, 16, 16), { fps: 24, comment }));
    const { tags, stream } = probe(file);
    expect(JSON.parse(tags.comment as string)).toMatchObject({ prompt, seed: 7 });
    expect(tags.encoder).toBe(TOOL);
    expect(stream.nb_read_frames).toBe('2');
  });
});
