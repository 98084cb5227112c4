import { createRequire } from 'node:module';
import { setImmediate } from 'node:timers/promises';
import { WanqError } from '../../errors.js';
import type { Video } from '../../pipeline/vae.js';
import { finishMp4 } from '../mp4/finish.js';
import { toYuv420 } from '../mp4/yuv.js';
import { TOOL } from '../provenance.js';
import type { VideoWriter } from './writer.js';

/** minih264's quantization parameter, from 10 (best) to 51. */
const QUANTIZATION = 18;

/** H.264 (baseline profile, 4:2:0, one key frame a second) in MP4, by a WASM encoder in this process. */
export const mp4Writer: VideoWriter = {
  check: ({ height, width }) => {
    if (height % 2 === 0 && width % 2 === 0) return;
    throw new WanqError('USAGE', `H.264 takes frames of even sides, and these have ${width} x ${height}`, {
      hint: 'choose an even --height and --width, or write a .webp',
    });
  },
  encode: async (video, { fps, comment, signal }) => {
    const bytes = await encodeH264(video, fps, signal);
    return finishMp4(bytes, comment === undefined ? undefined : { comment, tool: TOOL });
  },
};

let encoders = 0;

async function encodeH264(video: Video, fps: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const { frames, height, width, data } = video;
  const encoder = await loadEncoder().createH264MP4Encoder();
  // All encoders of a process share one file system in memory.
  const file = `${++encoders}.mp4`;
  encoder.outputFilename = file;
  encoder.width = width;
  encoder.height = height;
  encoder.frameRate = fps;
  encoder.groupOfPictures = fps;
  encoder.quantizationParameter = QUANTIZATION;
  encoder.initialize();
  try {
    const size = height * width * 3;
    for (let i = 0; i < frames; i++) {
      // Between two frames Ctrl-C is heard.
      await setImmediate();
      signal?.throwIfAborted();
      encoder.addFrameYuv(toYuv420(data.subarray(i * size, (i + 1) * size), height, width));
    }
  } finally {
    // An encoder that was not finished takes all others down with it.
    encoder.finalize();
    encoder.delete();
  }
  const bytes = encoder.FS.readFile(file);
  encoder.FS.unlink(file);
  return bytes;
}

const EVENTS = ['uncaughtException', 'unhandledRejection'] as const;

/**
 * The encoder's module is a megabyte, and when it is loaded it has the process end on every unhandled rejection: it is loaded when it is needed,
 * and its listeners are taken off again.
 */
function loadEncoder(): typeof import('h264-mp4-encoder') {
  const before = EVENTS.map((event) => new Set<unknown>(process.rawListeners(event)));
  const module = createRequire(import.meta.url)('h264-mp4-encoder') as typeof import('h264-mp4-encoder');
  for (const [i, event] of EVENTS.entries()) {
    for (const listener of process.rawListeners(event)) {
      if (!before[i]?.has(listener)) process.off(event, listener as () => void);
    }
  }
  return module;
}
