/** A box of an ISO base media file (ISO/IEC 14496-12, 4.2). */
export interface Box {
  /** Four characters, one byte each. */
  readonly type: string;
  /** Everything between the type and the boxes inside; all of the content where there are none. */
  fields: Uint8Array;
  readonly children: Box[];
}

/** Boxes that hold boxes on the way to a sample description, and the bytes of fields before the first of them. */
const CONTAINERS: Readonly<Record<string, number>> = {
  moov: 0,
  trak: 0,
  mdia: 0,
  minf: 0,
  stbl: 0,
  stsd: 8,
  avc1: 78,
};

/** @throws Error where a box does not end where the one around it does */
export function parseBoxes(bytes: Uint8Array): Box[] {
  return split(bytes).map(({ type, content }) => {
    const before = CONTAINERS[type];
    return before === undefined
      ? { type, fields: content, children: [] }
      : { type, fields: content.subarray(0, before), children: parseBoxes(content.subarray(before)) };
  });
}

/** The boxes that follow each other in `bytes`, not looked into. */
export function split(bytes: Uint8Array): { type: string; content: Uint8Array; whole: Uint8Array }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const boxes = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const left = bytes.byteLength - at;
    const short = left >= 8 ? view.getUint32(at) : 0;
    // 1: a 64-bit size follows the type; 0: up to the end.
    const header = short === 1 ? 16 : 8;
    const size = short === 1 && left >= 16 ? Number(view.getBigUint64(at + 8)) : short === 0 ? left : short;
    if (left < header || size < header || size > left) throw new Error(`a box at byte ${at} has no valid size`);
    const whole = bytes.subarray(at, at + size);
    boxes.push({ type: String.fromCharCode(...whole.subarray(4, 8)), content: whole.subarray(header), whole });
    at += size;
  }
  return boxes;
}

export function box(type: string, fields: Uint8Array, children: Box[] = []): Box {
  return { type, fields, children };
}

export function encodeBox({ type, fields, children }: Box): Uint8Array {
  const inside = children.map(encodeBox);
  const size = inside.reduce((sum, { byteLength }) => sum + byteLength, 8 + fields.byteLength);
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, size);
  bytes.set(
    Array.from(type, (character) => character.charCodeAt(0)),
    4,
  );
  let at = 8;
  for (const part of [fields, ...inside]) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

/** All boxes of a type, at any depth. */
export function findBoxes(boxes: readonly Box[], type: string): Box[] {
  return boxes.flatMap((each) => [...(each.type === type ? [each] : []), ...findBoxes(each.children, type)]);
}
