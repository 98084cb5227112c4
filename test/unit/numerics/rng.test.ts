import { describe, expect, it } from 'vitest';
import { deriveSeed, MersenneTwister, randn } from '../../../src/numerics/rng.js';

describe('MersenneTwister', () => {
  it('gives the published numbers of seed 5489', () => {
    const generator = new MersenneTwister(5489);
    const first = Array.from({ length: 5 }, () => generator.uint32());
    expect(first).toEqual([3499211612, 581869302, 3890346734, 3586334585, 545404204]);
  });

  it('gives the 10,000th number that the C++ standard demands of mt19937', () => {
    const generator = new MersenneTwister(5489);
    for (let i = 1; i < 10_000; i++) generator.uint32();
    expect(generator.uint32()).toBe(4123659995);
  });

  it('takes seeds modulo 2^32', () => {
    expect(new MersenneTwister(2 ** 32 + 7).uint32()).toBe(new MersenneTwister(7).uint32());
  });

  it('draws uniform numbers from the low 24 bits', () => {
    const numbers = new MersenneTwister(5489);
    const uniform = new MersenneTwister(5489);
    for (let i = 0; i < 2000; i++) expect(uniform.uniform() * 2 ** 24).toBe(numbers.uint32() % 2 ** 24);
  });
});

/** Box-Muller over 16 uniform numbers: eight radii, eight angles. */
function normalBlock(draw: () => number): number[] {
  const u = Array.from({ length: 16 }, draw);
  const polar = u.slice(0, 8).map((x, i) => ({
    radius: Math.sqrt(-2 * Math.log(1 - x)),
    angle: 2 * Math.PI * (u[i + 8] as number),
  }));
  return [
    ...polar.map(({ radius, angle }) => radius * Math.cos(angle)),
    ...polar.map(({ radius, angle }) => radius * Math.sin(angle)),
  ].map(Math.fround);
}

describe('randn', () => {
  it('starts as torch.randn does for seed 42', () => {
    const values = randn(42, 16);
    [1.9269153, 1.4872841, 0.9007172, -2.1055212].forEach((expected, i) => {
      expect(values[i]).toBeCloseTo(expected, 6);
    });
  });

  it('draws the last 16 values anew where the length is no multiple of 16, as torch does', () => {
    const generator = new MersenneTwister(3);
    const draw = (): number => generator.uniform();
    const first = normalBlock(draw);
    for (let i = 16; i < 21; i++) draw();
    expect([...randn(3, 21)]).toEqual([...first.slice(0, 5), ...normalBlock(draw)]);
  });

  it('gives the same beginning for every multiple of 16', () => {
    expect(randn(9, 64).subarray(0, 32)).toEqual(randn(9, 32));
  });

  it.each([16, 17, 31, 32, 1000])('gives %d finite values', (length) => {
    const values = randn(1, length);
    expect(values).toHaveLength(length);
    expect(values.every(Number.isFinite)).toBe(true);
  });

  it('is standard normal', () => {
    const values = randn(5, 200_000);
    const moment = (power: number): number => values.reduce((sum, x) => sum + x ** power, 0) / values.length;
    expect(moment(1)).toBeCloseTo(0, 1.7);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.02);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.1);
  });
});

describe('deriveSeed', () => {
  it('depends on its parts alone', () => {
    expect(deriveSeed(1, 2, 3)).toBe(deriveSeed(1, 2, 3));
    expect(deriveSeed(1, 2)).not.toBe(deriveSeed(2, 1));
    expect(deriveSeed(1, 2)).not.toBe(deriveSeed(1, 2, 0));
    expect(deriveSeed(1)).not.toBe(deriveSeed(2 ** 32 - 1));
  });

  it('gives each of 100 x 100 items a seed of its own, with every bit set in about half of them', () => {
    const seeds = Array.from({ length: 10_000 }, (_, i) => deriveSeed(7, Math.floor(i / 100), i % 100));
    expect(new Set(seeds).size).toBe(seeds.length);
    expect(seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)).toBe(true);
    for (let bit = 0; bit < 32; bit++) {
      const share = seeds.filter((seed) => (seed >>> bit) & 1).length / seeds.length;
      expect(Math.abs(share - 0.5), `bit ${bit}`).toBeLessThan(0.03);
    }
  });
});
