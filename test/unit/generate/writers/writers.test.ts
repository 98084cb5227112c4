import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { psnr } from '../../../../src/evaluate/metrics/psnr.js';
import { commentOf } from '../../../../src/generate/provenance.js';
import { gifWriter } from '../../../../src/generate/writers/gif.js';
import { writerFor } from '../../../../src/generate/writers/index.js';
import { mp4Writer } from '../../../../src/generate/writers/mp4.js';
import { pngWriter } from '../../../../src/generate/writers/png.js';
import { webpWriter } from '../../../../src/generate/writers/webp.js';
import { frameDurations } from '../../../../src/generate/writers/writer.js';
import { HOSTILE_PROMPTS, movingSquare } from '../../../helpers/videos.js';
import { expectRefusal, thrownBy } from '../../helpers/errors.js';

const video = movingSquare(10, 48, 64);

const commentWith = (prompt: string): string =>
  commentOf({ prompt, negativePrompt: '', seed: 1, steps: 2, guidance: 3, scheduler: 's', precision: 'FP32' });

const promptOf = (comment: string | undefined): unknown => JSON.parse(comment ?? '').prompt;

describe('durations of frames', () => {
  it.each([
    [24, 10, [40, 40, 50, 40, 40, 40]],
    [24, 1, [42, 41, 42, 42, 41, 42]],
    [8, 10, [130, 120, 130, 120, 130, 120]],
    [25, 10, [40, 40, 40, 40, 40, 40]],
  ])('at %i a second in units of %i ms', (fps, unit, expected) => {
    expect(frameDurations(6, fps, unit)).toEqual(expected);
  });

  it('do not add up an error', () => {
    const total = frameDurations(121, 24, 10).reduce((a, b) => a + b);
    expect(Math.abs(total - (121 * 1000) / 24)).toBeLessThanOrEqual(5);
  });
});

describe('the writer of a file', () => {
  it.each([
    ['clip.mp4', mp4Writer],
    ['clip.WebP', webpWriter],
    ['a.b/clip.x.gif', gifWriter],
    ['clip.png', pngWriter],
  ])('%s goes by its extension', (file, writer) => {
    expect(writerFor(file)).toBe(writer);
  });

  it.each(['clip.avi', 'clip', '.mp4', 'clip.', 'clip.mp4/x'])('is none for %s', (file) => {
    const error = thrownBy(() => writerFor(file));
    expect(error).toMatchObject({ code: 'USAGE', hint: expect.stringContaining('.mp4, .webp, .gif, .png') });
  });
});

describe('an animated WebP', () => {
  it('has the frames, their times and plays for ever', async () => {
    const bytes = await webpWriter.encode(video, { fps: 24, comment: undefined });
    const { pages, delay, loop, pageHeight, width, xmp } = await sharp(bytes, { animated: true }).metadata();
    expect({ pages, loop, pageHeight, width, xmp }).toEqual({ pages: 10, loop: 0, pageHeight: 48, width: 64 });
    expect(delay).toEqual(frameDurations(10, 24, 1));
    const pixels = await sharp(bytes, { animated: true }).removeAlpha().raw().toBuffer();
    expect(psnr(video.data, pixels)).toBeGreaterThan(30);
  });

  it.each(HOSTILE_PROMPTS)('tells its prompt exactly: %s', async (_, prompt) => {
    const bytes = await webpWriter.encode(movingSquare(2, 16, 16), { fps: 8, comment: commentWith(prompt) });
    const { xmp, pages } = await sharp(bytes, { animated: true }).metadata();
    const [, text = ''] = xmp?.toString().match(/<rdf:li xml:lang="x-default">([^<>]*)<\/rdf:li>/) ?? [];
    const plain = text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
    expect({ prompt: promptOf(plain), pages }).toEqual({ prompt, pages: 2 });
  });
});

/** Extensions of a GIF by label, and its images, read by the format's grammar. */
function gifParts(bytes: Buffer): { comments: string[]; images: number } {
  const colours = (packed: number): number => (packed & 0x80 ? 3 * 2 ** ((packed & 7) + 1) : 0);
  let at = 13 + colours(bytes.readUInt8(10));
  const blocks = (): Buffer => {
    const parts: Buffer[] = [];
    for (let size = bytes.readUInt8(at++); size > 0; size = bytes.readUInt8(at++)) {
      parts.push(bytes.subarray(at, at + size));
      at += size;
    }
    return Buffer.concat(parts);
  };
  const comments: string[] = [];
  for (let images = 0; ; ) {
    const introducer = bytes.readUInt8(at++);
    if (introducer === 0x3b) {
      expect(at).toBe(bytes.byteLength);
      return { comments, images };
    }
    if (introducer === 0x21) {
      const label = bytes.readUInt8(at++);
      const content = blocks();
      if (label === 0xfe) comments.push(content.toString('latin1'));
    } else {
      expect(introducer).toBe(0x2c);
      at += 9 + colours(bytes.readUInt8(at + 8)) + 1;
      blocks();
      images++;
    }
  }
}

describe('an animated GIF', () => {
  it('has the frames, also those alike, their times and plays for ever', async () => {
    const still = { ...video, data: Uint8Array.from(video.data) };
    still.data.copyWithin(0, 48 * 64 * 3, 2 * 48 * 64 * 3);
    const bytes = await gifWriter.encode(still, { fps: 24, comment: undefined });
    const { pages, delay, loop } = await sharp(bytes, { animated: true }).metadata();
    expect({ pages, loop, delay }).toEqual({ pages: 10, loop: 0, delay: frameDurations(10, 24, 10) });
    const pixels = await sharp(bytes, { animated: true }).removeAlpha().raw().toBuffer();
    expect(psnr(still.data, pixels)).toBeGreaterThan(30);
    expect(gifParts(bytes as Buffer)).toEqual({ comments: [], images: 10 });
  });

  it.each(HOSTILE_PROMPTS)('tells its prompt exactly, in ASCII: %s', async (_, prompt) => {
    const bytes = await gifWriter.encode(movingSquare(2, 16, 16), { fps: 8, comment: commentWith(prompt) });
    const { comments, images } = gifParts(bytes as Buffer);
    expect(comments[0]).toMatch(/^[ -~]+$/);
    expect({ images, prompts: comments.map(promptOf) }).toEqual({ images: 2, prompts: [prompt] });
  });
});

describe('a contact sheet', () => {
  it('has all frames of a short video', async () => {
    const bytes = await pngWriter.encode(video, { fps: 24, comment: undefined });
    const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: 4 * 64, height: 3 * 48 });
    const last = await sharp(data, { raw: { width: 256, height: 144, channels: 3 } })
      .extract({ left: 64, top: 96, width: 64, height: 48 })
      .raw()
      .toBuffer();
    expect(Buffer.compare(last, video.data.subarray(9 * 48 * 64 * 3))).toBe(0);
  });

  it('has 25 frames of a long one', async () => {
    const bytes = await pngWriter.encode(movingSquare(40, 16, 16), { fps: 24, comment: undefined });
    expect(await sharp(bytes).metadata()).toMatchObject({ width: 80, height: 80 });
  });

  it.each(HOSTILE_PROMPTS)('tells its prompt exactly: %s', async (_, prompt) => {
    const bytes = await pngWriter.encode(movingSquare(2, 16, 16), { fps: 8, comment: commentWith(prompt) });
    const { comments } = await sharp(bytes).metadata();
    expect(comments?.map(({ keyword, text }) => ({ keyword, prompt: promptOf(text) }))).toEqual([
      { keyword: 'Comment', prompt },
    ]);
    // libpng checks the sum of every chunk that it reads.
    await sharp(bytes, { failOn: 'warning' }).raw().toBuffer();
  });
});

describe('an MP4', () => {
  it.each([
    [127, 128],
    [128, 127],
  ])('is not made of frames of %i x %i', (height, width) => {
    expectRefusal(() => mp4Writer.check?.({ height, width }), 'USAGE');
    expect(() => mp4Writer.check?.({ height: 128, width: 128 })).not.toThrow();
  });

  it('has the same bytes for the same frames, whenever it is made', async () => {
    const make = async (): Promise<Buffer> => Buffer.from(await mp4Writer.encode(video, { fps: 24, comment: 'text' }));
    const first = await make();
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect((await make()).equals(first)).toBe(true);
  });

  it('is made beside another one', async () => {
    const other = movingSquare(6, 32, 32);
    const alone = await Promise.all([video, other].map((each) => mp4Writer.encode(each, { fps: 8, comment: 'a' })));
    const [first, second] = [
      await mp4Writer.encode(video, { fps: 8, comment: 'a' }),
      await mp4Writer.encode(other, { fps: 8, comment: 'a' }),
    ];
    expect(alone).toEqual([first, second]);
  });

  it('stops at an interruption, and the next one is made', async () => {
    const controller = new AbortController();
    const made = mp4Writer.encode(video, { fps: 24, comment: undefined, signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(made).rejects.toThrow('enough');
    expect((await mp4Writer.encode(video, { fps: 24, comment: undefined })).byteLength).toBeGreaterThan(1000);
  });

  it('leaves the process to handle its own rejections', async () => {
    await mp4Writer.encode(movingSquare(1, 16, 16), { fps: 24, comment: undefined });
    const foreign = [...process.rawListeners('unhandledRejection'), ...process.rawListeners('uncaughtException')];
    expect(foreign.map(String).filter((source) => /ExitStatus|abort/.test(source))).toEqual([]);
  });
});
