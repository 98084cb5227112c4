import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openClips } from '../../../src/evaluate/clips/index.js';
import { psnr } from '../../../src/evaluate/metrics/psnr.js';
import { mp4Writer } from '../../../src/generate/writers/mp4.js';
import type { Video } from '../../../src/pipeline/vae.js';
import { encode, hasFfmpeg } from '../../helpers/ffmpeg.js';
import { movingSquare } from '../../helpers/videos.js';
import { temporaryFolder } from '../support/environment.js';

const SIZE = { frames: 5, height: 48, width: 64 };
const root = temporaryFolder();
const present = hasFfmpeg();
let folders = 0;

afterEach(() => {
  vi.unstubAllEnvs();
});

/** A folder with one clip and its prompt. */
function folderOf(name: string, make: (file: string) => void): string {
  const folder = path.join(root, `clips ${++folders}`);
  mkdirSync(folder);
  make(path.join(folder, name));
  writeFileSync(path.join(folder, `${path.parse(name).name}.txt`), 'a square');
  return folder;
}

async function read(folder: string, size = SIZE): Promise<Video> {
  return (await openClips(folder, size)).video(0);
}

const refusal = (why: string) => ({ code: 'CLIPS_INVALID', message: expect.stringContaining(why) });

describe.runIf(present)('a video that ffmpeg reads', () => {
  const lossless = ['-c:v', 'libx264rgb', '-qp', '0'];
  it.each([
    ['clip.mp4', ['-c:v', 'libx264', '-crf', '10']],
    ['clip.mov', ['-c:v', 'libx264', '-crf', '10']],
    ['clip.mkv', lossless],
    ['clip.WEBM', ['-f', 'webm', '-c:v', 'libvpx-vp9', '-crf', '10', '-b:v', '0']],
    ['-i %03d "quoted" [1];$(x).mkv', lossless],
  ])('is a clip: %s', async (name, options) => {
    const video = movingSquare(8, 48, 64);
    const folder = folderOf(name, (file) => encode(video, file, options));
    const { data, ...size } = await read(folder);
    expect(size).toEqual(SIZE);
    expect(psnr(video.data.subarray(0, data.byteLength), data)).toBeGreaterThan(30);
  });

  it('may be one that wanq wrote', async () => {
    const video = movingSquare(5, 48, 64);
    const bytes = await mp4Writer.encode(video, { fps: 8, comment: undefined });
    const folder = folderOf('clip.mp4', (file) => writeFileSync(file, bytes));
    expect(psnr(video.data, (await read(folder)).data)).toBeGreaterThan(30);
  });

  it('is scaled to cover and cut in the centre', async () => {
    const wide = movingSquare(5, 96, 256);
    const folder = folderOf('clip.mkv', (file) => encode(wide, file, lossless));
    const { data } = await read(folder);
    // The gradient runs from left to right: what is left of it are the middle half.
    const red = (x: number): number => data[(40 * 64 + x) * 3] as number;
    expect(red(0)).toBeGreaterThan(33);
    expect(red(0)).toBeLessThan(43);
    expect(red(63)).toBeGreaterThan(107);
    expect(red(63)).toBeLessThan(117);
  });

  it('is refused where it has fewer frames', async () => {
    const folder = folderOf('clip.mp4', (file) => encode(movingSquare(4, 48, 64), file, []));
    await expect(read(folder)).rejects.toMatchObject(
      refusal('clip.mp4 has too few frames: 4, and the pipeline makes 5'),
    );
  });

  it.each([
    ['no video', Buffer.from('no video')],
    ['nothing', Buffer.alloc(0)],
  ])('is refused where it holds %s', async (_, content) => {
    const folder = folderOf('clip.mp4', (file) => writeFileSync(file, content));
    await expect(read(folder)).rejects.toMatchObject(refusal('clip.mp4 cannot be read'));
  });

  it('is refused where it is a list of other files', async () => {
    const folder = folderOf('clip.mp4', (file) => writeFileSync(file, 'ffconcat version 1.0\nfile other.dat\n'));
    encode(movingSquare(5, 48, 64), path.join(folder, 'other.dat'), ['-f', 'matroska', ...lossless]);
    await expect(read(folder)).rejects.toMatchObject(refusal('clip.mp4 cannot be read'));
  });
});

describe.skipIf(process.platform === 'win32')('ffmpeg', () => {
  /** A PATH on which `ffmpeg` is a script, or is not there. */
  function pathWith(script: string | undefined): string {
    const folder = path.join(root, `bin ${++folders}`);
    mkdirSync(folder);
    symlinkSync('/bin/sh', path.join(folder, 'sh'));
    if (script !== undefined) {
      const file = path.join(folder, 'ffmpeg');
      writeFileSync(file, `#!/bin/sh\n[ "$2" = -version ] && exit 0\n${script}\n`);
      chmodSync(file, 0o755);
    }
    return folder;
  }
  const folder = folderOf('clip.mp4', (file) => writeFileSync(file, 'video'));

  it('is asked for where it is missing, before a clip is read', async () => {
    vi.stubEnv('PATH', pathWith(undefined));
    await expect(openClips(folder, SIZE)).rejects.toMatchObject({
      ...refusal('clip.mp4 needs ffmpeg'),
      hint: expect.stringContaining('install ffmpeg, or convert'),
    });
  });

  it('is not needed for other clips', async () => {
    vi.stubEnv('PATH', pathWith(undefined));
    const other = folderOf('clip.txt', () => undefined);
    mkdirSync(path.join(other, 'clip'));
    expect((await openClips(other, SIZE)).count).toBe(1);
  });

  it('may not write without end', async () => {
    vi.stubEnv('PATH', pathWith('while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done'));
    await expect(read(folder)).rejects.toMatchObject(refusal('more than it was asked for'));
  });

  it('may not say without end', async () => {
    vi.stubEnv('PATH', pathWith('i=0; while [ $i -lt 20000 ]; do echo "noise $i" >&2; i=$((i+1)); done; exit 3'));
    await expect(read(folder)).rejects.toMatchObject(refusal('cannot be read: noise 19999'));
  });

  it('stops at an interruption', async () => {
    vi.stubEnv('PATH', pathWith('exec /bin/sleep 60'));
    const controller = new AbortController();
    const clips = await openClips(folder, SIZE, controller.signal);
    const made = clips.video(0);
    controller.abort(new Error('enough'));
    await expect(made).rejects.toThrow('enough');
  });
});
