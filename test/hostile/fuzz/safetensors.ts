import { interestingInteger, joined, mutateBytes, withFloat } from './bytes.js';
import { mutateJsonValue } from './json.js';
import type { Random } from './random.js';

type Header = Record<string, unknown>;

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const TYPES = ['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'U32', 'U8', 'I8', 'BOOL', 'F8_E4M3', 'toString'];

function parsed(bytes: Uint8Array): { header: Header; data: Uint8Array } {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return {
    header: JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Header,
    data: bytes.subarray(8 + length),
  };
}

function assembled(json: string, data: Uint8Array, length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(json);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt.asUintN(64, length ?? BigInt(text.byteLength)), true);
  return joined(prefix, text, data);
}

/** Changes a `.safetensors` file: its header as text and as JSON, JSON texts in its metadata, tensors with offsets that still fit, and data. */
export function mutateSafetensors(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  if (random.chance(0.1)) return mutateBytes(bytes, random, other);
  const { header, data } = parsed(bytes);
  switch (random.below(6)) {
    case 0:
      return assembled(mutateJsonValue(header, random), data);
    case 1:
    case 2:
      return assembled(JSON.stringify(withMetadata(header, random)), data);
    case 3:
      return withTensor(header, data, random);
    case 4: {
      const length = random.chance(0.5)
        ? interestingInteger(random)
        : BigInt(JSON.stringify(header).length + random.below(16) - 8);
      return random.chance(0.3)
        ? assembled(JSON.stringify(header), data, length)
        : assembled(JSON.stringify(header), withFloat(data, random));
    }
    default:
      return assembled(JSON.stringify(withMetadata(header, random)), withFloat(data, random));
  }
}

/** Metadata that is JSON itself is changed as JSON. */
function withMetadata(header: Header, random: Random): Header {
  const metadata = { ...(header.__metadata__ as Record<string, string> | undefined) };
  const keys = Object.keys(metadata);
  if (keys.length === 0)
    return { ...header, __metadata__: { count: random.pick(['-1', 'NaN', '1e400', '0', 'x', '']) } };
  // The largest is what a file is about.
  const key = random.chance(0.8)
    ? keys.reduce((a, b) => ((metadata[a] as string).length >= (metadata[b] as string).length ? a : b))
    : random.pick(keys);
  let value: unknown;
  try {
    value = JSON.parse(metadata[key] as string);
  } catch {
    value = metadata[key];
  }
  metadata[key] = mutateJsonValue(value, random);
  return { ...header, __metadata__: metadata };
}

/** Leaves a tensor out, renames it, swaps two or gives one another type or shape of as many bytes; the file stays a valid one mostly. */
function withTensor(header: Header, data: Uint8Array, random: Random): Uint8Array {
  const { __metadata__: metadata, ...rest } = structuredClone(header);
  const entries = Object.entries(rest) as [string, Entry][];
  if (entries.length === 0) return assembled(JSON.stringify(header), data);
  const at = random.below(entries.length);
  const [name, entry] = entries[at] as [string, Entry];
  const [other] = random.pick(entries);
  switch (random.below(6)) {
    case 0:
      entries.splice(at, 1);
      break;
    case 1:
      entries[at] = [`${other}x`, entry];
      break;
    case 2: {
      const second = entries.findIndex(([known]) => known === other);
      entries[at] = [other, entry];
      entries[second] = [name, (entries[second] as [string, Entry])[1]];
      break;
    }
    case 3:
      entry.dtype = random.pick(TYPES);
      break;
    case 4:
      entry.shape = random.pick([
        entry.shape.toReversed(),
        [1, ...entry.shape],
        [entry.shape.reduce((a, b) => a * b, 1)],
        [...entry.shape, 0],
        [],
      ]);
      break;
    default: {
      // As many elements as before, and the bytes of fewer.
      const cut = Math.min(4 * (1 + random.below(4)), entry.data_offsets[1] - entry.data_offsets[0]);
      entry.data_offsets[1] -= cut;
      if (entry.shape.length === 1) entry.shape = [((entry.data_offsets[1] - entry.data_offsets[0]) / 4) | 0];
    }
  }
  let end = 0;
  const parts: Uint8Array[] = [];
  const packed = entries.map(([key, of]) => {
    const part = data.subarray(...of.data_offsets);
    parts.push(part);
    end += part.byteLength;
    return [key, { ...of, data_offsets: [end - part.byteLength, end] }];
  });
  const made = { ...(metadata === undefined ? {} : { __metadata__: metadata }), ...Object.fromEntries(packed) };
  return assembled(JSON.stringify(made), joined(...parts));
}
