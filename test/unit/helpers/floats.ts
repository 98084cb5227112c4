import fc from 'fast-check';

const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);

/** The float32 with this bit pattern. */
export function floatOf(bits: number): number {
  words[0] = bits;
  return floats[0] as number;
}

/** Finite float32 values: any, zeros, denormals, and powers of two with their closest neighbours, of either sign. */
export function finiteFloat(): fc.Arbitrary<number> {
  const nearPowerOfTwo = fc
    .record({
      exponent: fc.integer({ min: 1, max: 254 }),
      step: fc.integer({ min: -2, max: 2 }),
      negative: fc.boolean(),
    })
    .map(({ exponent, step, negative }) => (negative ? -1 : 1) * floatOf((exponent << 23) + step));
  return fc.oneof(
    fc.float({ noNaN: true, noDefaultInfinity: true }),
    fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-10), max: Math.fround(10) }),
    fc.constantFrom(0, -0, 2 ** -149, -(2 ** -149), floatOf(0x007fffff), floatOf(0x7f7fffff), -floatOf(0x7f7fffff)),
    nearPowerOfTwo,
  );
}

/** {@link finiteFloat}, or NaN, or an infinity. */
export function anyFloat(): fc.Arbitrary<number> {
  return fc.oneof(
    { weight: 9, arbitrary: finiteFloat() },
    { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY) },
  );
}
