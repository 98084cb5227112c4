import { frameGrid, spreadFrames } from '../frames.js';
import type { VideoWriter } from './writer.js';

/** More would be too small to see on a screen. */
const MOST_FRAMES = 25;

/** Bytes of the signature and of IHDR, which comes first. */
const HEADER = 8 + 25;

/** A contact sheet: all frames, or 25 spread evenly over the video. The comment is an `iTXt` chunk. */
export const pngWriter: VideoWriter = {
  encode: async (video, { comment }) => {
    const chosen = spreadFrames(video.frames, MOST_FRAMES);
    const bytes = await frameGrid(video, chosen, Math.ceil(Math.sqrt(chosen.length)));
    if (comment === undefined) return bytes;
    return Buffer.concat([bytes.subarray(0, HEADER), textChunk(comment), bytes.subarray(HEADER)]);
  },
};

/** PNG (third edition), 11.3.3.4: international text, not compressed, without language and translated keyword. */
function textChunk(text: string): Uint8Array {
  const content = Buffer.concat([Buffer.from('iTXtComment\0\0\0\0\0', 'latin1'), Buffer.from(text)]);
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(content.byteLength - 4);
  checksum.writeUInt32BE(crc32(content));
  return Buffer.concat([length, content, checksum]);
}

/** PNG (third edition), annex D. zlib's own is missing in Node 20.12. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
