import { MersenneTwister } from '../../../src/numerics/rng.js';

/** Bytes that are the same for the same seed. */
export function random(seed: number, length: number): Uint8Array {
  const generator = new MersenneTwister(seed);
  return Uint8Array.from({ length }, () => Math.floor(256 * generator.uniform()));
}
