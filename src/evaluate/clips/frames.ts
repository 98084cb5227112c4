import { printable } from '../../errors.js';
import type { Video } from '../../pipeline/vae.js';
import { type Entry, listFolder } from './folder.js';
import { cover, ImageFile, opaque } from './image.js';
import { type ClipSize, invalid } from './source.js';

const EXTENSIONS: ReadonlySet<string> = new Set(['.png', '.jpg', '.jpeg', '.webp']);

/** A folder of numbered frames: the first that are needed, in the order of their numbers. */
export async function readFrames(folder: string, root: string, size: ClipSize): Promise<Video> {
  const files = await listFolder(folder, root, EXTENSIONS);
  const numbered = files.filter(({ isFolder }) => !isFolder).map((entry) => ({ ...entry, number: numberOf(entry) }));
  numbered.sort((a, b) => (a.number < b.number ? -1 : a.number > b.number ? 1 : 0));
  const twice = numbered.find(({ number }, i) => numbered[i + 1]?.number === number);
  if (twice) throw invalid(`${printable(folder)} has two frames ${twice.number}`, 'remove one of them');
  if (numbered.length < size.frames) throw tooShort(folder, numbered.length, size);
  const { frames, height, width } = size;
  const data = new Uint8Array(frames * height * width * 3);
  for (const [i, { file }] of numbered.slice(0, frames).entries()) {
    const image = await ImageFile.open(file, ['png', 'jpeg', 'webp']);
    const pixels = await image.decode({}, (decoded) => cover(opaque(decoded.autoOrient()), size));
    data.set(pixels, i * height * width * 3);
  }
  return { data, frames, height, width };
}

/** The last number in a name; leading zeros do not count. */
function numberOf({ file, stem }: Entry): bigint {
  const digits = stem.match(/\d+(?=\D*$)/)?.[0];
  if (digits === undefined) throw invalid(`${printable(file)} has no number in its name`, 'number the frames');
  return BigInt(digits);
}

export function tooShort(file: string, has: number, { frames }: ClipSize): Error {
  return invalid(
    `${printable(file)} has too few frames: ${has}, and the pipeline makes ${frames}`,
    `give clips of at least ${frames} frames, or a smaller --frames`,
  );
}
