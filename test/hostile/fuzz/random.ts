import { deriveSeed, MersenneTwister } from '../../../src/numerics/rng.js';

/** Choices that depend on nothing but the numbers they are seeded with. */
export class Random {
  readonly #generator: MersenneTwister;

  constructor(...seed: readonly number[]) {
    this.#generator = new MersenneTwister(deriveSeed(...seed));
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return this.#generator.uint32() % Math.max(n, 1);
  }

  chance(probability: number): boolean {
    return this.#generator.uniform() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** An item, each as likely as its weight says. */
  weighted<T extends { readonly weight: number }>(items: readonly T[]): T {
    let left = this.#generator.uniform() * items.reduce((sum, { weight }) => sum + weight, 0);
    for (const item of items) {
      left -= item.weight;
      if (left < 0) return item;
    }
    return items.at(-1) as T;
  }

  /** 1 in half of the cases, 2 in a quarter, and so on up to `most`. */
  few(most: number): number {
    let count = 1;
    while (count < most && this.chance(0.5)) count++;
    return count;
  }
}
