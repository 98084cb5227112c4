import type { Random } from './random.js';

/** Numbers at which readers of counts, sizes and offsets go wrong. */
const INTERESTING_INTEGERS = [
  0n,
  1n,
  -1n,
  2n,
  7n,
  100n,
  127n,
  255n,
  256n,
  65_535n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 40n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 62n,
  2n ** 63n - 1n,
  -(2n ** 31n),
  -(2n ** 63n),
] as const;

/** Floats, as bits of float32, at which arithmetic goes wrong: NaN, infinities, denormals, beyond FP16, zero. */
const INTERESTING_FLOATS = [0x7fc00000, 0x7f800000, 0xff800000, 1, 0x80000001, 0x7f7fffff, 0x477ff000, 0, 0x80000000];

const HOSTILE_TEXTS = [
  '',
  '.',
  '..',
  '../outside/secret',
  '/etc/passwd',
  'a/../../outside/secret',
  '..\\outside\\secret',
  'C:\\windows',
  '\\\\host\\share',
  '\0',
  'x\0y',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '\u001b[31mred\n::error::x',
  '<img src=x onerror=alert(1)>',
  '\ud800',
  'ￃ́\u202e',
  '-1',
  '1e400',
  '0x10',
  '9007199254740993',
  'NaN',
  'x'.repeat(1000),
  '*'.repeat(40),
  '{a,b,{c,{d,{e}}}}',
  '['.repeat(50),
  '(a+)+$',
] as const;

export function interestingInteger(random: Random): bigint {
  return random.chance(0.2) ? BigInt(random.below(2 ** 16)) : random.pick(INTERESTING_INTEGERS);
}

/** Bits of a float32. */
export function interestingFloat(random: Random): number {
  return random.pick(INTERESTING_FLOATS);
}

export function hostileText(random: Random): string {
  return random.chance(0.05) ? 'y'.repeat(100_000) : random.pick(HOSTILE_TEXTS);
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Bytes in which [from, to) are others. */
export function spliced(bytes: Uint8Array, from: number, to: number, others: Uint8Array): Uint8Array {
  return joined(bytes.subarray(0, from), others, bytes.subarray(to));
}

type ByteMutator = (bytes: Uint8Array, random: Random, other: Uint8Array) => Uint8Array;

/** A copy that may be written to. */
const copied = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

const block = (bytes: Uint8Array, random: Random): [number, number] => {
  const from = random.below(bytes.length + 1);
  return [from, Math.min(bytes.length, from + random.below(random.chance(0.7) ? 32 : bytes.length))];
};

const BYTE_MUTATORS: readonly ByteMutator[] = [
  function flipBit(bytes, random) {
    const out = copied(bytes);
    const at = random.below(out.length);
    if (out.length > 0) out[at] = (out[at] as number) ^ (1 << random.below(8));
    return out;
  },
  function overwriteByte(bytes, random) {
    const out = copied(bytes);
    if (out.length > 0) out[random.below(out.length)] = random.below(256);
    return out;
  },
  function overwriteInteger(bytes, random) {
    const out = copied(bytes);
    const view = new DataView(out.buffer);
    if (out.length < 8) return out;
    const at = random.below(out.length - 7);
    const value = interestingInteger(random);
    if (random.chance(0.5)) view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
    else view.setBigUint64(at, BigInt.asUintN(64, value), true);
    return out;
  },
  function overwriteFloat(bytes, random) {
    return withFloat(bytes, random);
  },
  function truncate(bytes, random) {
    return bytes.subarray(0, random.below(bytes.length + 1));
  },
  function insert(bytes, random) {
    const made = Uint8Array.from({ length: random.below(random.chance(0.9) ? 16 : 4096) }, () => random.below(256));
    const at = random.below(bytes.length + 1);
    return spliced(bytes, at, at, made);
  },
  function copyBlock(bytes, random) {
    const [from, to] = block(bytes, random);
    const at = random.below(bytes.length + 1);
    return spliced(bytes, at, at, bytes.subarray(from, to));
  },
  function deleteBlock(bytes, random) {
    const [from, to] = block(bytes, random);
    return spliced(bytes, from, to, new Uint8Array());
  },
  function spliceOther(bytes, random, other) {
    return joined(bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length + 1)));
  },
];

export function mutateBytes(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  let out = bytes;
  for (let left = random.few(8); left > 0; left--) out = random.pick(BYTE_MUTATORS)(out, random, other);
  return out;
}

/** Bytes of floats with one, or all from a place on, that is interesting. */
export function withFloat(bytes: Uint8Array, random: Random): Uint8Array {
  const out = copied(bytes);
  if (out.length < 4) return out;
  const view = new DataView(out.buffer);
  const first = random.below(out.length >> 2);
  const last = random.chance(0.2) ? out.length >> 2 : first + 1;
  const bits = interestingFloat(random);
  for (let i = first; i < last; i++) view.setUint32(4 * i, bits, true);
  return out;
}
