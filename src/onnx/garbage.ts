import type { FileHandle } from 'node:fs/promises';
import { printable, WanqError } from '../errors.js';
import { openRegular } from '../util/files.js';

/** Smaller files are read whole and decoded; this is for what would take gigabytes of memory to find out. */
const LARGE = 64 * 2 ** 20;

/** Fields that are looked at in the model and in its graph. */
const LOOKED_AT = 64;

const GRAPH = 7;

/**
 * Refuses a large file whose beginning is no model's before all of it is read: a sparse file, an archive or a video under another name.
 * @throws WanqError MODEL_INVALID, NOT_FOUND, NOT_READABLE
 */
export async function refuseGarbage(file: string): Promise<void> {
  const { handle, size } = await openRegular(file);
  try {
    if (size < LARGE || (await looksLikeFields(handle, 0, size, true))) return;
  } finally {
    await handle.close();
  }
  throw new WanqError('MODEL_INVALID', `${printable(file)} is not valid ONNX protobuf`, {
    hint: 'export the model again, or check that the download is complete',
  });
}

async function looksLikeFields(handle: FileHandle, from: number, end: number, isModel: boolean): Promise<boolean> {
  const bytes = new Uint8Array(20);
  let at = from;
  for (let field = 0; field < LOOKED_AT && at < end; field++) {
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, at);
    const tag = varint(bytes, 0, bytesRead);
    if (!tag || tag.value < 8) return false;
    const type = tag.value % 8;
    if (type === 0 || type === 2) {
      const value = varint(bytes, tag.end, bytesRead);
      if (!value) return false;
      at += value.end;
      if (type === 2) {
        const isGraph = isModel && Math.floor(tag.value / 8) === GRAPH;
        if (isGraph && !(await looksLikeFields(handle, at, Math.min(at + value.value, end), false))) return false;
        at += value.value;
      }
    } else if (type === 1) at += tag.end + 8;
    else if (type === 5) at += tag.end + 4;
    else return false;
  }
  return at <= end;
}

function varint(bytes: Uint8Array, from: number, end: number): { value: number; end: number } | undefined {
  let value = 0;
  for (let at = from, scale = 1; at < Math.min(end, from + 10); at++, scale *= 128) {
    const byte = bytes[at] as number;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, end: at + 1 };
  }
  return undefined;
}
