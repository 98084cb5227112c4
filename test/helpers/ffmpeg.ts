import { spawnSync } from 'node:child_process';
import type { Video } from '../../src/pipeline/vae.js';

/** Whether ffmpeg and ffprobe are on PATH; says so where they are not. */
export function hasFfmpeg(): boolean {
  const present = ['ffmpeg', 'ffprobe'].every((name) => spawnSync(name, ['-version']).status === 0);
  if (!present) console.warn('skipped what needs ffmpeg: there is no ffmpeg and ffprobe on PATH');
  return present;
}

function run(program: string, args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync(program, ['-v', 'error', ...args], { input, maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  return stdout;
}

/** What ffprobe reads of a file: its first stream and the tags of the container. */
export function probe(file: string): { stream: Record<string, unknown>; tags: Record<string, string> } {
  const { streams, format } = JSON.parse(
    run('ffprobe', ['-show_streams', '-show_format', '-count_frames', '-of', 'json', file]).toString(),
  );
  return { stream: streams[0], tags: format.tags };
}

/** All frames of a file as 8-bit RGB. */
export function decode(file: string): Uint8Array {
  return run('ffmpeg', ['-i', file, '-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1']);
}

/** Makes a video file of frames. @param options of the encoder */
export function encode(video: Video, file: string, options: readonly string[]): void {
  const { data, height, width } = video;
  const raw = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${width}x${height}`, '-r', '8', '-i', 'pipe:0'];
  run('ffmpeg', [...raw, ...options, file], data);
}
