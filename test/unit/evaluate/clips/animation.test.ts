import { describe, expect, it } from 'vitest';
import { shownPages } from '../../../../src/evaluate/clips/animation.js';

describe('pages of an animation by frame', () => {
  it.each<[string, number, number[], number[]]>([
    ['of one duration', 3, [40, 40, 40], [0, 1, 2]],
    ['that round to 24 a second', 4, [42, 41, 42, 42], [0, 1, 2, 3]],
    ['that round to 24 a second in hundredths', 4, [40, 50, 40, 40], [0, 1, 2, 3]],
    ['one held three times as long', 3, [42, 125, 41], [0, 1, 1, 1, 2]],
    ['without times', 3, [0, 0, 0], [0, 1, 2]],
    ['one without a time', 3, [0, 100, 100], [0, 1, 2]],
    ['of a file that does not say', 1, [], [0]],
    ['the last held for ever', 2, [40, 65_535], [0, 1, 1, 1, 1, 1, 1, 1]],
  ])('%s', (_, pages, delays, shown) => {
    expect(shownPages(pages, delays, 8)).toEqual(shown);
  });
});
