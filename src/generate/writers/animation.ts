import sharp, { type Sharp } from 'sharp';
import type { Video } from '../../pipeline/vae.js';

/** A video as sharp takes animations: its frames below each other. */
export function animation({ data, frames, height, width }: Video): Sharp {
  return sharp(data, {
    raw: { width, height: frames * height, channels: 3, pageHeight: height },
    // A bound for other people's images; five seconds of 1080p pass it.
    limitInputPixels: false,
  });
}
