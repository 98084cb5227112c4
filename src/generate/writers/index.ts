import path from 'node:path';
import { printable, WanqError } from '../../errors.js';
import { gifWriter } from './gif.js';
import { mp4Writer } from './mp4.js';
import { pngWriter } from './png.js';
import { webpWriter } from './webp.js';
import type { VideoWriter } from './writer.js';

const WRITERS: ReadonlyMap<string, VideoWriter> = new Map([
  ['.mp4', mp4Writer],
  ['.webp', webpWriter],
  ['.gif', gifWriter],
  ['.png', pngWriter],
]);

/** The writer of a file's extension. @throws WanqError USAGE */
export function writerFor(file: string): VideoWriter {
  const extension = path.extname(file);
  const writer = WRITERS.get(extension.toLowerCase());
  if (writer) return writer;
  const what = extension === '' ? 'has no extension that names a format' : `is of no format that wanq writes`;
  throw new WanqError('USAGE', `${printable(file)} ${what}`, {
    hint: `end its name in ${[...WRITERS.keys()].join(', ')}`,
  });
}
