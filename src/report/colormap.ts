/**
 * Anchors of the perceptually uniform colour map magma, evenly spaced: lightness grows throughout, so that it reads without colour too.
 * Source: S. van der Walt and N. Smith, matplotlib's colour maps (CC0).
 */
const MAGMA = [
  [0, 0, 4],
  [28, 16, 68],
  [79, 18, 123],
  [129, 37, 129],
  [181, 54, 122],
  [229, 80, 100],
  [251, 135, 97],
  [254, 194, 135],
  [252, 253, 191],
] as const;

/** @param level in 0 .. 255 @returns red, green and blue, 8 bits each */
export function magma(level: number): readonly [number, number, number] {
  const place = (Math.min(255, Math.max(0, level)) / 255) * (MAGMA.length - 1);
  const i = Math.min(MAGMA.length - 2, Math.floor(place));
  const [a, b] = [MAGMA[i] as readonly number[], MAGMA[i + 1] as readonly number[]];
  const mix = (k: number): number => Math.round((a[k] as number) + (place - i) * ((b[k] as number) - (a[k] as number)));
  return [mix(0), mix(1), mix(2)];
}

/** `[256, 3]`. */
export function magmaTable(): Uint8Array {
  return Uint8Array.from(Array.from({ length: 256 }, (_, level) => magma(level)).flat());
}
