import type { FileHandle } from 'node:fs/promises';
import { fromSystemError, printable, WanqError } from '../errors.js';
import {
  MAX_RANK,
  MAX_SAFETENSORS_BYTES,
  MAX_SAFETENSORS_HEADER_BYTES,
  MAX_SAFETENSORS_NAME_LENGTH,
  MAX_SAFETENSORS_TENSORS,
  MAX_TENSOR_ELEMENTS,
} from '../limits.js';
import { openRegular, readFully, writeAtomic } from './files.js';
import { parseJson } from './json.js';

/** Element types of the safetensors format that wanq reads and writes, with the array each comes in. */
const ARRAYS = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  U32: Uint32Array,
  U8: Uint8Array,
  I8: Int8Array,
} as const;

export type SafetensorsType = keyof typeof ARRAYS;

export interface SafeTensor {
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  readonly data:
    | Float64Array
    | Float32Array
    | Uint16Array
    | BigInt64Array
    | Int32Array
    | Uint32Array
    | Uint8Array
    | Int8Array;
}

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, SafeTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Entry {
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  /** Bytes of the file, [begin, end). */
  readonly begin: number;
  readonly end: number;
}

/** A safetensors file whose tensors are read when asked for, whole or in rows. */
export class SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly #path: string;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle, header: Header) {
    this.#path = path;
    this.#handle = handle;
    this.metadata = header.metadata;
    this.entries = header.entries;
  }

  /**
   * Reads the header, with the format's own checks: contiguous offsets without holes, spans that match shapes, string metadata.
   * @throws WanqError SAFETENSORS_INVALID, NOT_FOUND, NOT_READABLE
   */
  static async open(file: string): Promise<SafetensorsFile> {
    const { handle, size } = await openRegular(file);
    try {
      return new SafetensorsFile(file, handle, await readHeader(file, handle, size));
    } catch (error) {
      await handle.close();
      throw fromSystemError(error, file);
    }
  }

  /** @param rows range of the first axis; all of them if absent */
  async read(name: string, rows?: readonly [from: number, to: number]): Promise<SafeTensor> {
    const { dtype, shape, begin, end } = this.entries.get(name) as Entry;
    const [from, to] = rows ?? [0, shape[0] ?? 1];
    const row = shape.length === 0 ? end - begin : (end - begin) / Math.max(shape[0] as number, 1);
    const bytes = await readFully(this.#handle, begin + from * row, (to - from) * row).catch((error) => {
      throw fromSystemError(error, this.#path);
    });
    const data = new ARRAYS[dtype](bytes.buffer as ArrayBuffer);
    return { dtype, shape: shape.length === 0 ? [] : [to - from, ...shape.slice(1)], data };
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/**
 * Reads a safetensors file whole, or the tensors that are `wanted` of it.
 * @throws WanqError as {@link SafetensorsFile.open}
 */
export async function readSafetensors(
  file: string,
  wanted: (name: string) => boolean = () => true,
): Promise<Safetensors> {
  const opened = await SafetensorsFile.open(file);
  try {
    const names = [...opened.entries.keys()].filter(wanted);
    const bytes = names.reduce((sum, name) => {
      const { begin, end } = opened.entries.get(name) as Entry;
      return sum + end - begin;
    }, 0);
    if (bytes > MAX_SAFETENSORS_BYTES) {
      throw new WanqError(
        'NOT_READABLE',
        `${printable(file)} has ${bytes} bytes, more than the ${MAX_SAFETENSORS_BYTES} allowed`,
      );
    }
    const tensors = new Map<string, SafeTensor>();
    for (const name of names) tensors.set(name, await opened.read(name));
    return { tensors, metadata: opened.metadata };
  } finally {
    await opened.close();
  }
}

interface Header {
  readonly metadata: Record<string, string>;
  readonly entries: Map<string, Entry>;
}

async function readHeader(file: string, handle: FileHandle, size: number): Promise<Header> {
  const fail = (why: string): never => {
    throw new WanqError('SAFETENSORS_INVALID', `${printable(file)} is not a valid .safetensors file: ${why}`);
  };
  if (size < 8) fail('too short');
  const prefix = await readFully(handle, 0, 8);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true));
  if (length > MAX_SAFETENSORS_HEADER_BYTES || 8 + length > size) fail('the header is too long');
  const json = await readFully(handle, 8, length);
  // Nothing before it: a decoder would drop a byte order mark, and the format's other readers would not.
  if (json[0] !== 0x7b) fail('the header does not begin with {');
  let header: unknown;
  try {
    header = parseJson(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    fail(`the header is not JSON (${printable((cause as Error).message, 80)})`);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) return fail('the header is no object');

  const metadata: Record<string, string> = Object.create(null);
  const base = 8 + length;
  const found: (Entry & { readonly name: string })[] = [];
  const all = Object.entries(header as Record<string, unknown>);
  if (all.length > MAX_SAFETENSORS_TENSORS) fail(`it has ${all.length} tensors, more than ${MAX_SAFETENSORS_TENSORS}`);
  for (const [name, value] of all) {
    if (name.length > MAX_SAFETENSORS_NAME_LENGTH) fail(`a name has more than ${MAX_SAFETENSORS_NAME_LENGTH} letters`);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail('an entry is malformed');
    if (name === '__metadata__') {
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string') fail('metadata is not text');
        metadata[key] = text;
      }
      continue;
    }
    // Said as a text, an object would throw: `{"toString": 1}` has none.
    if (!('dtype' in value) || typeof value.dtype !== 'string') return fail('an entry is malformed');
    const { dtype, shape, data_offsets: offsets } = value as Record<string, unknown>;
    if (typeof dtype !== 'string' || !Object.hasOwn(ARRAYS, dtype)) {
      return fail(`unsupported type ${printable(String(dtype), 20)}`);
    }
    if (!isCounts(shape) || !isCounts(offsets) || offsets.length !== 2) return fail('an entry is malformed');
    const [begin, end] = offsets as [number, number];
    if (shape.length > MAX_RANK) fail(`a tensor has ${shape.length} dimensions`);
    // A zero must not make the others harmless.
    if (shape.reduce((a, b) => a * Math.max(b, 1), 1) > MAX_TENSOR_ELEMENTS) fail('a shape is impossible');
    const bytes = shape.reduce((a, b) => a * b, 1) * ARRAYS[dtype as SafetensorsType].BYTES_PER_ELEMENT;
    if (end - begin !== bytes) fail('a shape does not match its bytes');
    found.push({ name, dtype: dtype as SafetensorsType, shape, begin: base + begin, end: base + end });
  }
  found.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = base;
  const entries = new Map<string, Entry>();
  for (const { name, ...entry } of found) {
    if (entry.begin !== position) fail('tensors overlap or leave a hole');
    position = entry.end;
    entries.set(name, entry);
  }
  if (position !== size) fail('its length does not match the header');
  return { metadata, entries };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** Writes a safetensors file atomically. The same content gives the same bytes: entries are sorted by name. */
export async function writeSafetensors(file: string, { tensors, metadata }: Safetensors): Promise<void> {
  const names = [...tensors.keys()].sort();
  const header: Record<string, unknown> = {};
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) header.__metadata__ = Object.fromEntries(keys.map((key) => [key, metadata[key]]));
  let offset = 0;
  const parts: Uint8Array[] = [];
  // Wide types first keeps every tensor aligned to its element size.
  const width = (name: string): number => (tensors.get(name) as SafeTensor).data.BYTES_PER_ELEMENT;
  for (const name of names.sort((a, b) => width(b) - width(a))) {
    const { dtype, shape, data } = tensors.get(name) as SafeTensor;
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  let text = JSON.stringify(header);
  const encoder = new TextEncoder();
  text += ' '.repeat((8 - (encoder.encode(text).byteLength % 8)) % 8);
  const json = encoder.encode(text);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  await writeAtomic(file, [prefix, json, ...parts]);
}
