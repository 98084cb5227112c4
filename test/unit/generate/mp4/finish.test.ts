import { describe, expect, it } from 'vitest';
import { type Box, box, encodeBox, findBoxes, parseBoxes } from '../../../../src/generate/mp4/boxes.js';
import { finishMp4 } from '../../../../src/generate/mp4/finish.js';
import { commentOf } from '../../../../src/generate/provenance.js';
import { HOSTILE_PROMPTS } from '../../../helpers/videos.js';

const NONE = new Uint8Array();
const SAMPLES = Uint8Array.of(11, 22, 33, 44, 55, 66);
const MOVED = 0x01020304;

/** Version 0: version and flags, creation and modification time, one more field. */
function header(type: string): Box {
  const fields = new Uint8Array(16).fill(9);
  const view = new DataView(fields.buffer);
  view.setUint32(0, 0);
  view.setUint32(4, MOVED);
  view.setUint32(8, MOVED);
  return box(type, fields);
}

/** @param wide whether chunk offsets have 64 bits */
function movie(offsets: readonly number[], wide = false): Box {
  const table = Buffer.alloc(8 + offsets.length * (wide ? 8 : 4));
  table.writeUInt32BE(offsets.length, 4);
  for (const [i, offset] of offsets.entries()) {
    if (wide) table.writeBigUInt64BE(BigInt(offset), 8 + i * 8);
    else table.writeUInt32BE(offset, 8 + i * 4);
  }
  const entry = box('avc1', new Uint8Array(78), [box('avcC', SAMPLES)]);
  const stbl = box('stbl', NONE, [
    box('stsd', Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1), [entry]),
    box(wide ? 'co64' : 'stco', Uint8Array.from(table)),
  ]);
  const mdia = box('mdia', NONE, [header('mdhd'), box('minf', NONE, [stbl])]);
  return box('moov', NONE, [header('mvhd'), box('trak', NONE, [header('tkhd'), mdia])]);
}

const file = (...boxes: Box[]): Uint8Array => Buffer.concat(boxes.map(encodeBox));
const media = box('mdat', SAMPLES);
const before = box('ftyp', Uint8Array.of(1, 2, 3, 4));

/** Text of an iTunes tag, read with no help of the code under test. */
function tagOf(bytes: Uint8Array, name: string): string {
  const buffer = Buffer.from(bytes);
  const enter = (within: Buffer, type: string, skip = 0): Buffer => {
    for (let at = 0; at < within.length; at += within.readUInt32BE(at)) {
      const end = at + within.readUInt32BE(at);
      if (within.toString('latin1', at + 4, at + 8) === type) return within.subarray(at + 8 + skip, end);
    }
    throw new Error(`no ${type}`);
  };
  const list = enter(enter(enter(enter(buffer, 'moov'), 'udta'), 'meta', 4), 'ilst');
  const data = enter(enter(list, name), 'data');
  expect([data.readUInt32BE(0), data.readUInt32BE(4)]).toEqual([1, 0]);
  return data.toString('utf8', 8);
}

describe('a finished MP4 file', () => {
  it.each(HOSTILE_PROMPTS)('tells its prompt exactly: %s', (_, prompt) => {
    const facts = { prompt, negativePrompt: prompt, seed: 1, steps: 2, guidance: 3, scheduler: 's', precision: 'FP32' };
    const finished = finishMp4(file(before, media, movie([20])), { comment: commentOf(facts), tool: 'wanq 1' });
    expect(parseBoxes(finished).map(({ type }) => type)).toEqual(['ftyp', 'mdat', 'moov']);
    expect(JSON.parse(tagOf(finished, '\u00a9cmt'))).toMatchObject({ prompt, negative_prompt: prompt, seed: 1 });
    expect(tagOf(finished, '\u00a9too')).toBe('wanq 1');
  });

  it('keeps all that is not moov, and offsets of samples before it', () => {
    const whole = file(before, media, box('free', SAMPLES), movie([20, 23]));
    const finished = finishMp4(whole, { comment: 'text', tool: 'tool' });
    const head = file(before, media, box('free', SAMPLES));
    expect(Buffer.from(finished).subarray(0, head.byteLength).equals(head)).toBe(true);
    expect(offsetsOf(finished, 'stco')).toEqual([20, 23]);
  });

  it.each([
    ['stco', false],
    ['co64', true],
  ])('moves offsets of samples behind it: %s', (type, wide) => {
    const start = file(before, movie([0, 0], wide)).byteLength + 8;
    const finished = finishMp4(file(before, movie([start, start + 3], wide), media), { comment: 'text', tool: 'tool' });
    const offsets = offsetsOf(finished, type);
    expect(offsets.map((offset) => finished[offset])).toEqual([SAMPLES[0], SAMPLES[3]]);
  });

  it('has no times of the clock, and tells its colours', () => {
    const finished = parseBoxes(finishMp4(file(before, media, movie([20])), undefined));
    for (const type of ['mvhd', 'tkhd', 'mdhd']) {
      const [found] = findBoxes(finished, type);
      expect([...(found as Box).fields]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
    }
    const [entry] = findBoxes(finished, 'avc1');
    expect(entry?.children.map(({ type }) => type)).toEqual(['avcC', 'colr']);
    expect(Buffer.from(entry?.children[1]?.fields ?? []).toString('latin1')).toBe('nclx\0\u0001\0\u0001\0\u0001\0');
    expect(findBoxes(finished, 'udta')).toEqual([]);
  });

  it.each([
    ['no movie', [before, media], 'no moov'],
    ['user data already', [before, box('moov', NONE, [box('udta', NONE)])], 'user data'],
  ])('is not made of one with %s', (_, boxes, why) => {
    expect(() => finishMp4(file(...boxes), undefined)).toThrow(why);
  });
});

function offsetsOf(bytes: Uint8Array, type: string): number[] {
  const [table] = findBoxes(parseBoxes(bytes), type);
  const fields = Buffer.from(table?.fields ?? []);
  return Array.from({ length: fields.readUInt32BE(4) }, (_, i) =>
    type === 'co64' ? Number(fields.readBigUInt64BE(8 + i * 8)) : fields.readUInt32BE(8 + i * 4),
  );
}
