/** IEEE 754 binary16 and bfloat16 as 16-bit patterns. Node 20 and 22 have no Float16Array. */

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Largest finite binary16 value. */
export const HALF_MAX = 65504;

/** @returns the binary16 pattern nearest to `value`, ties to even; overflow gives infinity. */
export function toHalf(value: number): number {
  f32[0] = value;
  const bits = u32[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const mantissa = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (mantissa === 0 ? 0 : 0x200);
  const e = exponent - 127 + 15;
  if (e >= 31) return sign | 0x7c00;
  if (e <= 0) {
    if (e < -10) return sign;
    return sign | shiftRoundEven(mantissa | 0x800000, 14 - e);
  }
  // A mantissa that rounds up past its end carries into the exponent, which is the right result.
  return sign | ((e << 10) + shiftRoundEven(mantissa, 13));
}

function shiftRoundEven(value: number, shift: number): number {
  const half = 1 << (shift - 1);
  const rest = value & ((1 << shift) - 1);
  const quotient = value >>> shift;
  return rest > half || (rest === half && (quotient & 1) === 1) ? quotient + 1 : quotient;
}

/** @returns the value of a binary16 pattern. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** @returns the smallest positive binary16 value that is not below a positive `value`; the largest finite one above that */
export function ceilToHalf(value: number): number {
  const bits = Math.min(toHalf(value), 0x7bff);
  const nearest = fromHalf(bits);
  return nearest >= value || bits === 0x7bff ? nearest : fromHalf(bits + 1);
}

/** @returns the largest binary16 value that is not above a positive `value` */
export function floorToHalf(value: number): number {
  const bits = Math.min(toHalf(value), 0x7bff);
  const nearest = fromHalf(bits);
  return nearest <= value ? nearest : fromHalf(bits - 1);
}

let halfTable: Float32Array | undefined;

export function halfToFloat32(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  halfTable ??= Float32Array.from({ length: 65536 }, (_, pattern) => fromHalf(pattern));
  for (let i = 0; i < bits.length; i++) out[i] = halfTable[bits[i] as number] as number;
  return out;
}

export function float32ToHalf(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const bits = words[i] as number;
    const exponent = (bits >>> 23) & 0xff;
    // Normal in both formats: the exponent is rebased and the mantissa rounded to nearest even in one addition.
    out[i] =
      exponent > 112 && exponent < 142
        ? ((bits >>> 16) & 0x8000) | (((bits & 0x7fffffff) - 0x38000000 + 0xfff + ((bits >>> 13) & 1)) >>> 13)
        : toHalf(values[i] as number);
  }
  return out;
}

export function bfloat16ToFloat32(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] as number) << 16;
  return out;
}
