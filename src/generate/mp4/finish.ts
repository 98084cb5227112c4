import { type Box, box, encodeBox, findBoxes, parseBoxes, split } from './boxes.js';

/** Text for iTunes' metadata list, which players and ffprobe show. */
export interface Mp4Tags {
  readonly comment: string;
  /** Program that made the file. */
  readonly tool: string;
}

/** ISO/IEC 23091-2: BT.709 primaries, transfer and matrix. */
const BT709 = 1;

/**
 * Completes an MP4 file of one H.264 track: says that its colours are BT.709 in limited range, takes times of the clock out, so that the same
 * frames give the same bytes, and adds tags. Only `moov` changes; where the samples lie behind it, their offsets do too.
 *
 * @throws Error where the file has no `moov`, or has user data already
 */
export function finishMp4(bytes: Uint8Array, tags: Mp4Tags | undefined): Uint8Array {
  const parts = split(bytes);
  const position = parts.findIndex(({ type }) => type === 'moov');
  const before = parts[position]?.whole;
  const [moov] = before ? parseBoxes(before) : [];
  if (!before || !moov) throw new Error('the MP4 file has no moov box');
  if (moov.children.some(({ type }) => type === 'udta')) throw new Error('the MP4 file has user data already');
  for (const type of ['mvhd', 'tkhd', 'mdhd']) for (const found of findBoxes([moov], type)) clearTimes(found);
  for (const entry of findBoxes([moov], 'avc1')) entry.children.push(colours());
  if (tags) moov.children.push(userData(tags));
  const growth = encodeBox(moov).byteLength - before.byteLength;
  if (parts.slice(position).some(({ type }) => type === 'mdat')) {
    for (const type of ['stco', 'co64']) for (const found of findBoxes([moov], type)) moveOffsets(found, growth);
  }
  return concatenate(parts.map(({ type, whole }) => (type === 'moov' ? encodeBox(moov) : whole)));
}

/** Creation and modification time, behind version and flags. */
function clearTimes(header: Box): void {
  const width = header.fields[0] === 1 ? 8 : 4;
  header.fields = Uint8Array.from(header.fields).fill(0, 4, 4 + 2 * width);
}

function colours(): Box {
  const limitedRange = 0;
  return box('colr', Uint8Array.of(...ascii('nclx'), 0, BT709, 0, BT709, 0, BT709, limitedRange));
}

/** moov/udta/meta/ilst as iTunes writes it: one `data` box of type 1 (UTF-8) for each tag. */
function userData({ comment, tool }: Mp4Tags): Box {
  const tag = (type: string, text: string): Box =>
    box(type, new Uint8Array(), [
      box('data', concatenate([Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0), new TextEncoder().encode(text)])),
    ]);
  const handler = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, ...ascii('mdirappl'), ...new Uint8Array(9));
  const list = box('ilst', new Uint8Array(), [tag('\u00a9cmt', comment), tag('\u00a9too', tool)]);
  return box('udta', new Uint8Array(), [box('meta', new Uint8Array(4), [box('hdlr', handler), list])]);
}

/** Adds to every chunk offset; they follow version, flags and their count. */
function moveOffsets(table: Box, by: number): void {
  const moved = Uint8Array.from(table.fields);
  const view = new DataView(moved.buffer);
  const wide = table.type === 'co64';
  for (let i = 0, at = 8; i < view.getUint32(4); i++, at += wide ? 8 : 4) {
    if (wide) view.setBigUint64(at, view.getBigUint64(at) + BigInt(by));
    else view.setUint32(at, view.getUint32(at) + by);
  }
  table.fields = moved;
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
