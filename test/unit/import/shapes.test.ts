import { describe, expect, it } from 'vitest';
import { broadcast, matmulShape, reshaped, type Size } from '../../../src/import/shapes.js';

describe('broadcast', () => {
  it.each<[Size[], Size[], Size[]]>([
    [[], ['n', 3], ['n', 3]],
    [['b', 'n', 4], [4], ['b', 'n', 4]],
    [
      ['b', 1, 4],
      ['b', 'n', 4],
      ['b', 'n', 4],
    ],
    [
      [1, 6, 4],
      ['b', 'n', 6, 4],
      ['b', 'n', 6, 4],
    ],
  ])('of %j and %j is %j', (a, b, both) => {
    expect(broadcast(a, b)).toEqual(both);
    expect(broadcast(b, a)).toEqual(both);
  });

  it.each<[Size[], Size[]]>([
    [[3], [4]],
    [['n'], ['m']],
    [['n'], [2]],
  ])('refuses %j and %j', (a, b) => {
    expect(() => broadcast(a, b)).toThrow('do not broadcast');
  });
});

describe('matmulShape', () => {
  it('keeps rows and columns, and broadcasts what stands before', () => {
    expect(matmulShape(['b', 'h', 'n', 8], ['b', 'h', 8, 'm'])).toEqual(['b', 'h', 'n', 'm']);
    expect(matmulShape(['b', 'n', 8], [8, 5])).toEqual(['b', 'n', 5]);
    expect(matmulShape(['b', 8], [8, 5])).toEqual(['b', 5]);
  });

  it('refuses inner sizes that differ', () => {
    expect(() => matmulShape(['b', 8], [9, 5])).toThrow('no product');
    expect(() => matmulShape([8], [8])).toThrow('no product');
  });
});

describe('reshaped', () => {
  it.each<[Size[], number[], Size | undefined, Size[]]>([
    [['b', 'n', 12], [0, 0, 3, 4], undefined, ['b', 'n', 3, 4]],
    [['b', 'n', 3, 4], [0, 0, -1], undefined, ['b', 'n', 12]],
    [['b', 8, 'f', 'h'], [0, 0, -1], 'tokens', ['b', 8, 'tokens']],
    [['n', 2, 3], [1, -1, 2, 3], 'n', [1, 'n', 2, 3]],
  ])('makes of %j by %j, rest %s, %j', (from, to, rest, result) => {
    expect(reshaped(from, to, rest)).toEqual(result);
  });

  it('refuses what cannot be', () => {
    expect(() => reshaped(['b', 10], [0, 3, -1])).toThrow('cannot become');
    expect(() => reshaped(['b', 'n'], [0, -1, 4])).toThrow('cannot become');
    expect(() => reshaped(['b'], [0, 0])).toThrow('no size to keep');
  });
});
