/** Protobuf by hand, for what no encoder would write. */

export function varint(value: bigint | number): Buffer {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    if (rest <= 0x7fn) return Buffer.from(bytes);
  }
}

/** A field that holds bytes, a text or another message. */
export function bytesField(id: number, content: Uint8Array | string): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([varint(id * 8 + 2), varint(bytes.length), bytes]);
}

export function numberField(id: number, value: bigint | number): Buffer {
  return Buffer.concat([varint(id * 8), varint(value)]);
}

/** A field `count` times over. */
export function repeated(count: number, field: Uint8Array): Buffer {
  return Buffer.alloc(field.length * count, field);
}

export const joined = (...parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);
