import type { Video } from '../../src/pipeline/vae.js';

/** A bright square that moves to the right over a gradient. */
export function movingSquare(frames: number, height: number, width: number): Video {
  const data = new Uint8Array(frames * height * width * 3);
  const side = Math.max(2, Math.floor(Math.min(height, width) / 4));
  for (let f = 0, at = 0; f < frames; f++) {
    const left = Math.floor((f * (width - side)) / Math.max(frames - 1, 1));
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += 3) {
        const inside = x >= left && x < left + side && y >= side && y < 2 * side;
        const colour = inside ? [230, 60, 40] : [(x * 150) / width, (y * 150) / height, 90];
        data.set(colour.map(Math.floor), at);
      }
    }
  }
  return { data, frames, height, width };
}

/** Prompts that would break a format that quotes, counts or shows them carelessly. */
export const HOSTILE_PROMPTS: readonly [what: string, prompt: string][] = [
  ['letters of several scripts', 'ein „schöner“ Ball, 赤い円, 🟥 and 👩‍🚀'],
  ['markup', `"quotes' \\ back\\u0000slash </rdf:li><script>alert(1)</script> &amp; ]]> <?xpacket end="w"?>`],
  ['control characters', 'mdat\u0000\u0000\u0000\u0008free line\r\nbreak\ttab \u001b[31mred\u0007'],
  ['characters that are none', 'right\u202eto left\u2028separator\u0085next\ufeff\ufffe\ud800 lone'],
  ['ten thousand letters', 'long 長い '.repeat(1250)],
  ['nothing', ''],
];
