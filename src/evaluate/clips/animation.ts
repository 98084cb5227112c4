import sharp from 'sharp';
import type { Video } from '../../pipeline/vae.js';
import { tooShort } from './frames.js';
import { cover, ImageFile, opaque } from './image.js';
import type { ClipSize } from './source.js';

/** An animated WebP or GIF: the first frames that are needed. */
export async function readAnimation(file: string, size: ClipSize): Promise<Video> {
  const { frames, height, width } = size;
  const image = await ImageFile.open(file, ['webp', 'gif']);
  const { pages = 1, delay = [] } = image.metadata;
  const shown = shownPages(pages, delay, frames);
  if (shown.length < frames) throw tooShort(file, shown.length, size);
  const decoded = await image.decode({ pages: (shown.at(-1) as number) + 1 }, (all) =>
    opaque(all).raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true }),
  );
  const { info } = decoded;
  const page = { width: info.width, height: info.pageHeight ?? info.height, channels: 3 } as const;
  const bytes = page.width * page.height * 3;
  const data = new Uint8Array(frames * height * width * 3);
  for (const [i, p] of shown.entries()) {
    // Each by itself: scaled together, pages would run into each other at their edges.
    const pixels = await cover(sharp(decoded.data.subarray(p * bytes, (p + 1) * bytes), { raw: page }), size);
    data.set(pixels, i * height * width * 3);
  }
  return { data, frames, height, width };
}

/**
 * Pages of an animation by frame. Encoders store frames that are alike once, to be shown longer: a page is as many frames as its time holds of
 * the shortest one's.
 *
 * @param delays of pages, ms; none where the file has one page or does not say
 * @param most frames that are needed
 */
export function shownPages(pages: number, delays: readonly number[], most: number): number[] {
  const shortest = delays.length === pages ? Math.min(...delays) : 0;
  const shown: number[] = [];
  for (let page = 0; page < pages; page++) {
    const times = shortest > 0 ? Math.round((delays[page] as number) / shortest) : 1;
    for (let i = 0; i < times && shown.length < most; i++) shown.push(page);
  }
  return shown;
}
