/**
 * Random numbers that equal PyTorch's CPU generator, so that a seed gives the noise diffusers users know from it:
 * MT19937 (Matsumoto and Nishimura 1998) seeded by `init_genrand`, and Box-Muller over blocks of 16 as `torch.randn` does it.
 */
export class MersenneTwister {
  readonly #state = new Uint32Array(624);
  #next = 624;

  /** @param seed taken modulo 2^32, as torch.manual_seed does for the CPU generator */
  constructor(seed: number) {
    this.#state[0] = seed >>> 0;
    for (let i = 1; i < 624; i++) {
      const previous = this.#state[i - 1] as number;
      this.#state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  uint32(): number {
    if (this.#next === 624) this.#twist();
    let y = this.#state[this.#next++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** Uniform in [0, 1) with 24 bits, as torch draws float32. */
  uniform(): number {
    return (this.uint32() & 0xffffff) * 2 ** -24;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < 624; i++) {
      const y = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % 624] as number) & 0x7fffffff);
      state[i] = (state[(i + 397) % 624] as number) ^ (y >>> 1) ^ ((y & 1) * 0x9908b0df);
    }
    this.#next = 0;
  }
}

/**
 * Standard normal float32 values, equal to `torch.randn(n, generator=torch.Generator("cpu").manual_seed(seed))` within float rounding
 * (torch's vectorized log and cos differ in the last bits).
 *
 * @param length at least 16: torch takes another path for fewer
 */
export function randn(seed: number, length: number): Float32Array {
  const generator = new MersenneTwister(seed);
  const uniform = Float64Array.from({ length: Math.max(length, 16) }, () => generator.uniform());
  const values = new Float32Array(uniform.length);
  for (let i = 0; i + 16 <= uniform.length; i += 16) boxMuller(uniform, values, i);
  if (uniform.length % 16 !== 0) {
    // torch draws the last 16 values anew where the length is no multiple of 16.
    const start = uniform.length - 16;
    for (let i = start; i < uniform.length; i++) uniform[i] = generator.uniform();
    boxMuller(uniform, values, start);
  }
  return values.subarray(0, length);
}

function boxMuller(uniform: Float64Array, values: Float32Array, start: number): void {
  for (let i = start; i < start + 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - (uniform[i] as number)));
    const angle = 2 * Math.PI * (uniform[i + 8] as number);
    values[i] = radius * Math.cos(angle);
    values[i + 8] = radius * Math.sin(angle);
  }
}

/** A seed for one item of a run, independent of how many items there are and of their order (a 32-bit mix of its parts). */
export function deriveSeed(...parts: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const part of parts) {
    hash = Math.imul(hash ^ (part >>> 0), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}
