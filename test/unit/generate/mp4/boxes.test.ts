import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Box, box, encodeBox, findBoxes, parseBoxes, split } from '../../../../src/generate/mp4/boxes.js';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const text = (characters: string): number[] => [...Buffer.from(characters, 'latin1')];

const leaf = fc
  .tuple(fc.constantFrom('free', 'mdat', 'stco', '\u00a9cmt'), fc.uint8Array({ maxLength: 40 }))
  .map(([type, fields]) => box(type, fields));
const { tree } = fc.letrec<{ tree: Box }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie('tree'), { maxLength: 4 }).map((children) => box('moov', bytes(), children)),
  ),
}));

describe('boxes', () => {
  it('come back from their bytes', () => {
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 5 }), (boxes) => {
        expect(parseBoxes(Buffer.concat(boxes.map(encodeBox)))).toEqual(
          boxes.map((each) => expect.objectContaining({ type: each.type, children: expect.any(Array) })),
        );
        const again = Buffer.concat(parseBoxes(Buffer.concat(boxes.map(encodeBox))).map(encodeBox));
        expect(again.equals(Buffer.concat(boxes.map(encodeBox)))).toBe(true);
      }),
    );
  });

  it('are found at any depth, a sample description with its fields', () => {
    const entry = box('avc1', new Uint8Array(78).fill(7), [box('avcC', bytes(1, 2))]);
    const description = box('stsd', bytes(0, 0, 0, 0, 0, 0, 0, 1), [entry]);
    const moov = encodeBox(box('moov', bytes(), [box('trak', bytes(), [description])]));
    expect(findBoxes(parseBoxes(moov), 'avcC')).toEqual([box('avcC', bytes(1, 2))]);
    expect(findBoxes(parseBoxes(moov), 'avc1')).toEqual([entry]);
  });

  it('may have a 64-bit size, or none up to the end', () => {
    const wide = bytes(0, 0, 0, 1, ...text('mdat'), 0, 0, 0, 0, 0, 0, 0, 18, 5, 6);
    const open = bytes(0, 0, 0, 0, ...text('free'), 9);
    const found = split(Buffer.concat([wide, open]));
    expect(found.map(({ type, content }) => [type, ...content])).toEqual([
      ['mdat', 5, 6],
      ['free', 9],
    ]);
  });

  it.each([
    ['too short for a header', bytes(0, 0, 0, 8, 1)],
    ['smaller than its header', bytes(0, 0, 0, 7, ...text('free'))],
    ['larger than what is there', bytes(0, 0, 0, 9, ...text('free'))],
    ['of a 64-bit size that is cut off', bytes(0, 0, 0, 1, ...text('mdat'), 0, 0)],
  ])('are refused where one is %s', (_, file) => {
    expect(() => split(file)).toThrow('no valid size');
  });
});
