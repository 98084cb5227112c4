import { animation } from './animation.js';
import { frameDurations, type VideoWriter } from './writer.js';
import { xmpPacket } from './xmp.js';

/** Of 100. Blocking is not seen at it. */
const QUALITY = 90;

/** Animated WebP, lossy, that plays for ever. The comment is the `dc:description` of its XMP. Frames alike are stored as one that lasts longer. */
export const webpWriter: VideoWriter = {
  encode: async (video, { fps, comment }) => {
    const image = animation(video).webp({ quality: QUALITY, loop: 0, delay: frameDurations(video.frames, fps, 1) });
    return (comment === undefined ? image : image.withXmp(xmpPacket(comment))).toBuffer();
  },
};
