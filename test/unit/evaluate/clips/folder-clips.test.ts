import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { beforeEach, describe, expect, it } from 'vitest';
import { type ClipSize, openClips } from '../../../../src/evaluate/clips/index.js';
import { psnr } from '../../../../src/evaluate/metrics/psnr.js';
import type { Video } from '../../../../src/pipeline/vae.js';
import { movingSquare } from '../../../helpers/videos.js';
import { temporaryFolder } from '../../helpers/temporary.js';
import { ClipFolder } from './support.js';

const SIZE: ClipSize = { frames: 5, height: 32, width: 48 };
const video = movingSquare(5, 32, 48);

let folder: ClipFolder;

beforeEach(async () => {
  folder = await ClipFolder.make();
});

async function read(index = 0, size = SIZE): Promise<Video> {
  const clips = await openClips(folder.root, size);
  return clips.video(index);
}

async function refusal(act: () => Promise<unknown> = () => read()): Promise<string> {
  const error = await act().then(
    () => undefined,
    (thrown) => thrown,
  );
  expect(error).toMatchObject({ name: 'WanqError', code: 'CLIPS_INVALID' });
  return `${error.message}: ${error.hint}`;
}

describe('a folder of clips', () => {
  it('lists them by name, in the order of code points, with their prompts', async () => {
    for (const name of ['b', 'a', 'Z', 'ä', '\u{1f7e5}', '\uff21', 'a10', 'a2']) {
      await folder.animation(`${name}.webp`, video);
      await folder.prompt(name);
    }
    const clips = await openClips(folder.root, SIZE);
    const order = ['Z', 'a', 'a10', 'a2', 'b', 'ä', '\uff21', '\u{1f7e5}'];
    expect(clips.prompts).toEqual(order.map((name) => `the prompt of ${name}`));
    expect(clips.count).toBe(8);
    await clips.close();
  });

  it('leaves out hidden files and those of other kinds', async () => {
    await folder.animation('clip.webp', video);
    await folder.prompt('clip');
    for (const name of ['.DS_Store', '.hidden.webp', '.trash/0.png', 'notes.md', 'sheet.png'])
      await folder.write(name, 'x');
    expect((await openClips(folder.root, SIZE)).prompts).toEqual(['the prompt of clip']);
  });

  it('has prompts without the white space around them', async () => {
    await folder.animation('clip.webp', video);
    await folder.prompt('clip', '\ufeff  two\nlines \r\n');
    expect((await openClips(folder.root, SIZE)).prompts).toEqual(['two\nlines']);
  });

  it('is no folder of clips where it is empty', async () => {
    expect(await refusal()).toContain(`${folder.root} holds no clips`);
  });

  it.each<[string, () => Promise<unknown>, string]>([
    [
      'a clip without a prompt',
      () => folder.animation('alone.webp', video),
      'alone.webp has no prompt: write it to alone.txt',
    ],
    ['frames without a prompt', () => folder.frames(video, (i) => `alone/${i}.png`), 'alone has no prompt'],
    ['a prompt without a clip', () => folder.prompt('alone'), 'alone.txt is a prompt without a clip'],
    [
      'two clips for one prompt',
      async () => {
        await folder.animation('twin.webp', video);
        await folder.animation('twin.gif', video);
        await folder.prompt('twin');
      },
      'two clips for one prompt: twin.gif and twin.webp',
    ],
    [
      'an empty prompt',
      async () => {
        await folder.animation('mute.webp', video);
        await folder.prompt('mute', ' \n');
      },
      'mute.txt is empty',
    ],
  ])('is refused for %s, by name', async (_, make, says) => {
    await folder.animation('good.webp', video);
    await folder.prompt('good');
    await make();
    expect(await refusal()).toContain(says);
  });

  it.skipIf(process.platform === 'win32')('follows links that stay in it, and no others', async () => {
    await folder.frames(video, (i) => `.store/${i}.png`);
    await symlink('.store', path.join(folder.root, 'inside'));
    await folder.prompt('inside');
    expect(psnr(video.data, (await read()).data)).toBe(Number.POSITIVE_INFINITY);

    const elsewhere = await temporaryFolder();
    const other = path.join(elsewhere, 'other.txt');
    await symlink(path.join(folder.root, 'inside.txt'), other);
    for (const [name, target] of [
      ['outside', elsewhere],
      ['outside.webp', other],
      ['outside.txt', other],
    ] as const) {
      const linked = await ClipFolder.make();
      await symlink(target, path.join(linked.root, name));
      expect(await refusal(() => openClips(linked.root, SIZE))).toContain(`${name} is a link that leads out`);
    }
  });

  it.skipIf(process.platform === 'win32')('does not follow links out of a folder of frames', async () => {
    const other = await ClipFolder.make();
    await other.frames(video, (i) => `${i}.png`);
    await folder.frames(movingSquare(4, 32, 48), (i) => `clip/${i}.png`);
    await symlink(path.join(other.root, '4.png'), path.join(folder.root, 'clip', '4.png'));
    await folder.prompt('clip');
    expect(await refusal()).toContain('4.png is a link that leads out');
  });

  it.skipIf(process.platform === 'win32')('may be reached by a link itself', async () => {
    await folder.animation('clip.webp', video);
    await folder.prompt('clip');
    const link = path.join(await temporaryFolder(), 'clips');
    await symlink(folder.root, link);
    expect((await openClips(link, SIZE)).count).toBe(1);
  });
});

describe('a folder of frames', () => {
  it.each<[string, (i: number) => string]>([
    ['numbers', (i) => `${i}.png`],
    ['numbers that grow a digit', (i) => `frame-${i + 8}.png`],
    ['padded numbers behind a text with one', (i) => `clip2_${String(i * 3).padStart(4, '0')}.PNG`],
  ])('is a clip, its frames in the order of %s', async (_, name) => {
    await folder.frames(video, (i) => `clip/${name(i)}`);
    await folder.prompt('clip');
    expect(await read()).toEqual({ ...video, data: expect.anything() });
    expect(Buffer.compare((await read()).data, video.data)).toBe(0);
  });

  it('gives the first frames where it has more', async () => {
    await folder.frames(movingSquare(9, 32, 48), (i) => `clip/${i}.png`);
    await folder.prompt('clip');
    const expected = movingSquare(9, 32, 48).data.subarray(0, 5 * 32 * 48 * 3);
    expect(Buffer.compare((await read()).data, expected)).toBe(0);
  });

  it('takes JPEG and WebP, and images that are grey, of 16 bits, transparent or turned', async () => {
    const [first] = [movingSquare(1, 32, 48)];
    const image = () => sharp(first?.data, { raw: { height: 32, width: 48, channels: 3 } });
    await folder.write('clip/0.jpg', await image().jpeg({ quality: 98, chromaSubsampling: '4:4:4' }).toBuffer());
    await folder.write('clip/1.webp', await image().webp({ lossless: true }).toBuffer());
    const turned = image().rotate(-90).withMetadata({ orientation: 6 });
    await folder.write('clip/2.jpeg', await turned.jpeg({ quality: 98, chromaSubsampling: '4:4:4' }).toBuffer());
    await folder.write('clip/3.png', await image().toColourspace('rgb16').png().toBuffer());
    const grey = await image().greyscale().png().toBuffer();
    await folder.write('clip/4.png', grey);
    const clear = { width: 48, height: 32, channels: 4, background: { r: 255, g: 255, b: 255, alpha: 0 } } as const;
    await folder.write('clip/5.png', await sharp({ create: clear }).png().toBuffer());
    await folder.prompt('clip');
    const { data } = await read(0, { ...SIZE, frames: 6 });
    const frame = (i: number): Uint8Array => data.subarray(i * 4608, (i + 1) * 4608);
    for (const i of [0, 1, 2, 3]) expect(psnr((first as Video).data, frame(i))).toBeGreaterThan(i % 2 === 0 ? 30 : 60);
    expect(frame(4).every((value, i) => value === frame(4)[i - (i % 3)])).toBe(true);
    expect(new Set(frame(4)).size).toBeGreaterThan(10);
    expect(frame(5).every((value) => value === 0)).toBe(true);
  });

  it.each<[string, () => Promise<unknown>, string]>([
    [
      'too few frames',
      () => folder.frames(movingSquare(4, 32, 48), (i) => `clip/${i}.png`),
      'clip has too few frames: 4, and the pipeline makes 5: give clips of at least 5 frames',
    ],
    ['no frames', () => mkdir(path.join(folder.root, 'clip')), 'clip has too few frames: 0'],
    ['frames without numbers', () => folder.write('clip/cover.png', 'x'), 'cover.png has no number'],
    [
      'two frames of one number',
      async () => {
        await folder.frames(video, (i) => `clip/${i}.png`);
        await folder.write('clip/x03.jpg', 'x');
      },
      'clip has two frames 3',
    ],
    [
      'frames that are no images',
      async () => folder.frames(video, (i) => `clip/${i}.png`).then(() => folder.write('clip/2.png', 'text')),
      '2.png cannot be read',
    ],
    [
      'frames that are cut off',
      async () => {
        await folder.frames(video, (i) => `clip/${i}.png`);
        const noise = Buffer.from(Array.from({ length: 32 * 48 * 3 }, (_, i) => (i * 7919) % 251));
        const png = await sharp(noise, { raw: { width: 48, height: 32, channels: 3 } })
          .png()
          .toBuffer();
        await folder.write('clip/2.png', png.subarray(0, png.byteLength / 2));
      },
      '2.png cannot be read',
    ],
    [
      'frames of another format than their name',
      async () => {
        await folder.frames(video, (i) => `clip/${i}.png`);
        await folder.write('clip/2.png', '<svg xmlns="http://www.w3.org/2000/svg" width="48" height="32"/>');
      },
      '2.png holds svg: it needs png, jpeg, webp',
    ],
  ])('is refused for %s, by name', async (_, make, says) => {
    await make();
    await folder.prompt('clip');
    expect(await refusal()).toContain(says);
  });
});

describe('an animation', () => {
  it.each(['clip.webp', 'clip.gif', 'clip.GIF'])('%s is a clip', async (name) => {
    await folder.animation(name, movingSquare(7, 32, 48));
    await folder.prompt('clip');
    const expected = movingSquare(7, 32, 48).data.subarray(0, 5 * 32 * 48 * 3);
    const { data, ...size } = await read();
    expect(size).toEqual(SIZE);
    expect(psnr(expected, data)).toBeGreaterThan(30);
  });

  it('shows a page as long as it is held: WebP has frames that are alike once', async () => {
    const still = { ...video, data: Uint8Array.from(video.data) };
    const frame = 32 * 48 * 3;
    still.data.copyWithin(2 * frame, frame, 2 * frame);
    still.data.copyWithin(3 * frame, frame, 2 * frame);
    await folder.animation('clip.webp', still);
    await folder.prompt('clip');
    const { pages } = await sharp(path.join(folder.root, 'clip.webp'), { animated: true }).metadata();
    expect(pages).toBe(3);
    expect(psnr(still.data, (await read()).data)).toBeGreaterThan(30);
  });

  it('is refused where it has fewer frames, by name', async () => {
    await folder.animation('clip.gif', movingSquare(4, 32, 48));
    await folder.prompt('clip');
    expect(await refusal()).toContain('clip.gif has too few frames: 4, and the pipeline makes 5');
  });

  it('is a still image only for one frame', async () => {
    await folder.write(
      'clip.webp',
      await sharp(video.data.subarray(0, 4608), { raw: { width: 48, height: 32, channels: 3 } })
        .webp()
        .toBuffer(),
    );
    await folder.prompt('clip');
    expect(await refusal()).toContain('clip.webp has too few frames: 1');
    expect((await read(0, { ...SIZE, frames: 1 })).frames).toBe(1);
  });

  it('may have a name that libvips would take for options', async () => {
    await folder.animation('clip[n=1].webp', video);
    await folder.prompt('clip[n=1]');
    expect((await read()).frames).toBe(5);
  });

  it('is read by what it holds', async () => {
    await folder.write(
      'clip.webp',
      await sharp(video.data.subarray(0, 4608), { raw: { width: 48, height: 32, channels: 3 } })
        .png()
        .toBuffer(),
    );
    await folder.prompt('clip');
    expect(await refusal()).toContain('clip.webp holds png: it needs webp, gif');
  });
});

describe('a clip of another size', () => {
  /** Frames of three vertical bands, of which the outer two are left out by a cut to a square. */
  function bands(frames: number, side: number): Video {
    const [height, width] = [side, 2 * side];
    const data = new Uint8Array(frames * height * width * 3);
    for (let i = 0; i < data.length / 3; i++) {
      const x = i % width;
      const frame = Math.floor(i / (height * width));
      const inside = x >= width / 4 && x < (3 * width) / 4;
      data.set(inside ? [0, 40 * frame, 200] : [255, 0, 0], i * 3);
    }
    return { data, frames, height, width };
  }

  it.each<[string, (video: Video) => Promise<void>]>([
    ['frames', (clip) => folder.frames(clip, (i) => `clip/${i}.png`)],
    ['a GIF', (clip) => folder.animation('clip.gif', clip)],
  ])('is scaled to cover and cut in the centre: %s', async (_, make) => {
    await make(bands(5, 64));
    await folder.prompt('clip');
    const size = { frames: 5, height: 16, width: 16 };
    const { data, ...read16 } = await read(0, size);
    expect(read16).toEqual(size);
    for (let frame = 0; frame < 5; frame++) {
      for (const [y, x] of [
        [0, 2],
        [15, 13],
        [8, 8],
      ] as const) {
        const at = ((frame * 16 + y) * 16 + x) * 3;
        const [red = 0, green = 0, blue = 0] = data.subarray(at, at + 3);
        // Rows at the edge hold nothing of the pages above and below.
        expect(red).toBeLessThan(12);
        expect(Math.abs(green - 40 * frame)).toBeLessThan(12);
        expect(Math.abs(blue - 200)).toBeLessThan(12);
      }
    }
  });

  it('is enlarged too', async () => {
    await folder.frames(movingSquare(5, 16, 24), (i) => `clip/${i}.png`);
    await folder.prompt('clip');
    expect(await read()).toMatchObject(SIZE);
  });
});
