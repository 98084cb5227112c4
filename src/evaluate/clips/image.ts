import sharp, { type Metadata, type Sharp, type SharpOptions } from 'sharp';
import { printable } from '../../errors.js';
import { MAX_CLIP_FILE_BYTES } from '../../limits.js';
import { readBounded } from '../../util/files.js';
import { type ClipSize, invalid } from './source.js';

/** An image file in memory, of a format that was looked at and not only named. */
export class ImageFile {
  readonly metadata: Metadata;
  readonly #file: string;
  readonly #bytes: Uint8Array;

  private constructor(file: string, bytes: Uint8Array, metadata: Metadata) {
    this.#file = file;
    this.#bytes = bytes;
    this.metadata = metadata;
  }

  /** @throws WanqError CLIPS_INVALID; NOT_FOUND, NOT_READABLE */
  static async open(file: string, formats: readonly string[]): Promise<ImageFile> {
    // By its bytes: libvips takes brackets in a name for options.
    const bytes = await readBounded(file, MAX_CLIP_FILE_BYTES);
    const metadata = await readable(file, () => sharp(bytes).metadata());
    if (formats.includes(metadata.format)) return new ImageFile(file, bytes, metadata);
    throw invalid(`${printable(file)} holds ${printable(metadata.format, 20)}`, `it needs ${formats.join(', ')}`);
  }

  /** @throws WanqError CLIPS_INVALID where it cannot be decoded */
  decode<T>(options: SharpOptions, use: (image: Sharp) => Promise<T>): Promise<T> {
    return readable(this.#file, () => use(sharp(this.#bytes, options)));
  }
}

async function readable<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const why = printable(error instanceof Error ? error.message : String(error), 160);
    throw invalid(`${printable(file)} cannot be read: ${why}`, 'replace it, or leave it out', error);
  }
}

/** 8-bit RGB, on black where it is transparent. */
export function opaque(image: Sharp): Sharp {
  return image.toColourspace('srgb').flatten({ background: '#000' });
}

/**
 * Scales an image to cover a frame, and cuts it in the centre.
 * @returns `[height, width, 3]`
 */
export function cover(image: Sharp, { height, width }: Pick<ClipSize, 'height' | 'width'>): Promise<Buffer> {
  return image.resize({ width, height, fit: 'cover', position: 'centre' }).raw({ depth: 'uchar' }).toBuffer();
}
