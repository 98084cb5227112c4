import { spawn } from 'node:child_process';
import { printable, type WanqError } from '../../errors.js';
import type { Video } from '../../pipeline/vae.js';
import { tooShort } from './frames.js';
import { type ClipSize, invalid } from './source.js';

/** Demuxers by extension. Named, so that a playlist under a video's name cannot open other files. */
export const DEMUXERS: Readonly<Record<string, string>> = {
  '.mp4': 'mov',
  '.mov': 'mov',
  '.webm': 'matroska',
  '.mkv': 'matroska',
};

/** A clip is a few seconds; one that takes longer hangs, ms. */
const TIME_LIMIT_MS = 10 * 60 * 1000;

/** What ffmpeg says that is kept, characters. */
const MAX_SAID = 4096;

/** @throws WanqError CLIPS_INVALID where there is no ffmpeg on PATH. @param file clip that needs it */
export async function assertFfmpeg(file: string): Promise<void> {
  await runFfmpeg(['-nostdin', '-version'], undefined, file, undefined);
}

/**
 * The first frames of a video file, decoded by the `ffmpeg` on PATH, at the file's own frame rate.
 * @throws WanqError CLIPS_INVALID; the signal's reason
 */
export async function readWithFfmpeg(
  file: string,
  extension: string,
  size: ClipSize,
  signal: AbortSignal | undefined,
): Promise<Video> {
  const { frames, height, width } = size;
  const data = new Uint8Array(frames * height * width * 3);
  const scale = `scale=${width}:${height}:force_original_aspect_ratio=increase:flags=lanczos+accurate_rnd`;
  const filled = await runFfmpeg(
    [
      ...['-nostdin', '-v', 'error', '-protocol_whitelist', 'file'],
      ...['-f', DEMUXERS[extension] as string, '-i', `file:${file}`],
      ...['-map', '0:v:0', '-frames:v', String(frames), '-vf', `${scale},format=rgb24,crop=${width}:${height}`],
      ...['-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1'],
    ],
    data,
    file,
    signal,
  );
  if (filled < data.byteLength) throw tooShort(file, Math.floor(filled / (height * width * 3)), size);
  return { data, frames, height, width };
}

/**
 * Runs ffmpeg without a shell.
 * @param target gets what it writes; more than fits ends it
 * @returns bytes written
 */
function runFfmpeg(
  args: readonly string[],
  target: Uint8Array | undefined,
  file: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const child = spawn('ffmpeg', args, { stdio: ['ignore', target ? 'pipe' : 'ignore', 'pipe'], windowsHide: true });
    let [filled, said, why] = [0, '', ''];
    const end = (reason: string): void => {
      why = reason;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => end(`ffmpeg took longer than ${TIME_LIMIT_MS / 60_000} minutes`), TIME_LIMIT_MS);
    const onAbort = (): void => end('interrupted');
    signal?.addEventListener('abort', onAbort, { once: true });
    child.stdout?.on('data', (chunk: Buffer) => {
      if (!target || filled + chunk.byteLength > target.byteLength)
        return end('ffmpeg wrote more than it was asked for');
      target.set(chunk, filled);
      filled += chunk.byteLength;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-MAX_SAID);
    });
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    child.on('error', (error: NodeJS.ErrnoException) => {
      settle();
      reject(error.code === 'ENOENT' ? absent(file) : unreadable(file, error.message));
    });
    child.on('close', (code) => {
      settle();
      if (signal?.aborted) reject(signal.reason);
      else if (code === 0 && why === '') resolve(filled);
      else reject(unreadable(file, why || said.trim().split('\n').at(-1) || `ffmpeg ended with ${code}`));
    });
  });
}

function absent(file: string): WanqError {
  return invalid(
    `${printable(file)} needs ffmpeg to be read, and there is none on PATH`,
    'install ffmpeg, or convert the clip to an animated .webp or a folder of frames',
  );
}

function unreadable(file: string, why: string): WanqError {
  return invalid(`${printable(file)} cannot be read: ${printable(why, 160)}`, 'replace it, or leave it out');
}
