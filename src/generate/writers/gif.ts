import { jsonEscape } from '../provenance.js';
import { animation } from './animation.js';
import { frameDurations, type VideoWriter } from './writer.js';

/** Data blocks of a GIF hold at most this much. */
const BLOCK = 255;

const TRAILER = 0x3b;

/** Animated GIF that plays for ever, up to 256 colours a frame. The comment is a comment extension, in ASCII as the format has it. */
export const gifWriter: VideoWriter = {
  encode: async (video, { fps, comment }) => {
    const delay = frameDurations(video.frames, fps, 10);
    const bytes = await animation(video).gif({ loop: 0, delay, keepDuplicateFrames: true }).toBuffer();
    if (comment === undefined) return bytes;
    if (bytes.at(-1) !== TRAILER) throw new Error('the GIF file has no trailer');
    return Buffer.concat([bytes.subarray(0, -1), commentExtension(comment), bytes.subarray(-1)]);
  },
};

/** GIF89a, 24. */
function commentExtension(comment: string): Uint8Array {
  const text = Buffer.from(comment.replace(/[^\0-\x7f]/g, jsonEscape), 'latin1');
  const blocks: Uint8Array[] = [];
  for (let at = 0; at < text.byteLength; at += BLOCK) {
    const block = text.subarray(at, at + BLOCK);
    blocks.push(Uint8Array.of(block.byteLength), block);
  }
  return Buffer.concat([Uint8Array.of(0x21, 0xfe), ...blocks, Uint8Array.of(0)]);
}
