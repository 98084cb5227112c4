import { InvalidArgumentError } from 'commander';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteCount, duration, shard } from '../../../src/cli/options.js';

describe('byteCount', () => {
  it.each([
    ['1', 1],
    ['8589934592', 2 ** 33],
    ['8GB', 8e9],
    ['8G', 8e9],
    ['8g', 8e9],
    ['8GiB', 8 * 2 ** 30],
    ['8Gi', 8 * 2 ** 30],
    ['8gib', 8 * 2 ** 30],
    ['7.5GiB', 7.5 * 2 ** 30],
    ['0.5k', 500],
    ['512m', 512e6],
    ['512MiB', 2 ** 29],
    ['3kB', 3000],
    ['3KiB', 3072],
    ['100b', 100],
    ['100B', 100],
    [' 16 GB ', 16e9],
    ['1.0015k', 1001],
    ['016', 16],
  ])('reads "%s" as %i', (text, bytes) => {
    expect(byteCount(text)).toBe(bytes);
  });

  it.each([
    '',
    ' ',
    '0',
    '0GB',
    '0.5',
    '0.0001k',
    '-1',
    '-8GB',
    '+8GB',
    '1XB',
    '1T',
    '1i',
    '1iB',
    '1BB',
    '1GBs',
    '1 G B',
    'GB',
    '.5G',
    '5.G',
    '1,5G',
    '1e9',
    '0x10',
    'NaN',
    'Infinity',
    '8GB\n8GB',
    '１GB',
  ])('refuses "%s"', (text) => {
    expect(() => byteCount(text)).toThrow(InvalidArgumentError);
    expect(() => byteCount(text)).toThrow('Give a size such as 8GB or 7.5GiB.');
  });

  it('takes any whole number of bytes as it is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (bytes) => {
        expect(byteCount(String(bytes))).toBe(bytes);
        expect(byteCount(`${bytes}B`)).toBe(bytes);
      }),
    );
  });

  it('counts in thousands, and in 1024s with an i', () => {
    const units = fc.constantFrom('k', 'm', 'g', 'K', 'M', 'G');
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 }), units, fc.constantFrom('', 'b', 'B'), (count, unit, b) => {
        const power = 'kmg'.indexOf(unit.toLowerCase()) + 1;
        expect(byteCount(`${count}${unit}${b}`)).toBe(count * 1000 ** power);
        expect(byteCount(`${count}${unit}i${b}`)).toBe(count * 1024 ** power);
      }),
    );
  });
});

describe('shard', () => {
  it.each<[string, [number, number]]>([
    ['1/1', [1, 1]],
    ['2/4', [2, 4]],
    ['4/4', [4, 4]],
    ['1/999999', [1, 999_999]],
    ['02/04', [2, 4]],
  ])('reads %s', (text, expected) => {
    expect(shard(text)).toEqual(expected);
  });

  it.each([
    '',
    '1',
    '/',
    '1/',
    '/4',
    '0/4',
    '5/4',
    '0/0',
    '1/0',
    '-1/4',
    '1/-4',
    '1.5/4',
    '1/4/4',
    '1 / 4',
    ' 1/4',
    '1/4 ',
    '1/4\n',
    'a/b',
    '1\\4',
    '1of4',
    '1/1000000',
  ])('refuses "%s"', (text) => {
    expect(() => shard(text)).toThrow(InvalidArgumentError);
    expect(() => shard(text)).toThrow('Give i/n with i from 1 to n, such as 2/4.');
  });

  it('reads i/n exactly where i is from 1 to n', () => {
    fc.assert(
      fc.property(fc.nat(50), fc.nat(50), (index, count) => {
        const text = `${index}/${count}`;
        if (index >= 1 && index <= count) expect(shard(text)).toEqual([index, count]);
        else expect(() => shard(text)).toThrow(InvalidArgumentError);
      }),
    );
  });
});

describe('duration', () => {
  it.each([
    ['90s', 90_000],
    ['10min', 600_000],
    [' 1.5 h ', 5_400_000],
    ['0.5s', 500],
  ])('reads "%s" as %i ms', (text, ms) => {
    expect(duration(text)).toBe(ms);
  });

  it.each(['', '10', '0s', '-1min', '10 minutes', '1e3s', 'min', '1h30min', 'NaNs'])('refuses "%s"', (text) => {
    expect(() => duration(text)).toThrow(InvalidArgumentError);
  });
});
