import { existsSync, readdirSync, readFileSync } from 'node:fs';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import { PROMPTS, until, Workplace } from '../helpers/cli.js';
import { hasFfmpeg, probe } from '../helpers/ffmpeg.js';
import { MICRO_PIPELINE } from '../helpers/fixtures.js';
import { expectMistakeIn } from '../helpers/mistakes.js';

const place = new Workplace();
const [prompt = ''] = PROMPTS;
const generate = ['generate', MICRO_PIPELINE, '--device', 'cpu', '--steps', '1', '--guidance', '1', '--fps', '8'];
const asked = [...generate, '--prompt', prompt];
const hasProbe = hasFfmpeg();

describe('generate', () => {
  it('makes an MP4 of a prompt, and says so', async () => {
    const { stdout, stderr } = await place.succeed([...asked, '--seed', '7', '-o', 'clip.mp4', '--quiet']);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^clip\.mp4: \S+ kB, 17 frames of 128 x 128 at 8 a second\n/);
    expect(stdout).toMatch(/\nFP32, steps 1, seed 7, on cpu: 0:\d\d, peak memory \S+ MB\n$/);
    expect(readFileSync(place.path('clip.mp4')).subarray(4, 8).toString()).toBe('ftyp');
  });

  it.runIf(hasProbe)('leaves prompt, seed and precision in it', async () => {
    const { tags, stream } = probe(place.path('clip.mp4'));
    expect(JSON.parse(tags.comment as string)).toMatchObject({ prompt, seed: 7, steps: 1, precision: 'FP32' });
    expect(stream).toMatchObject({ nb_read_frames: '17', r_frame_rate: '8/1' });
  });

  it('prints JSON and nothing else with --json', async () => {
    const { stdout } = await place.succeed(['--json', ...asked, '-o', 'made/clips/clip.webp', '--no-metadata']);
    expect(JSON.parse(stdout)).toMatchObject({
      output: 'made/clips/clip.webp',
      ...{ prompt, seed: 0, fps: 8, frames: 17, device: 'cpu' },
      transformer: { provider: 'cpu', forwards: 1 },
    });
    const { pages, xmp } = await sharp(readFileSync(place.path('made/clips/clip.webp'))).metadata();
    expect({ pages, xmp }).toEqual({ pages: 17, xmp: undefined });
  });

  it('takes a prompt for text, whatever it looks like', async () => {
    const strange = '--steps; $(rm -rf .) "\u001b[31m\n/*';
    const { stdout, stderr } = await place.succeed([...generate, `--prompt=${strange}`, '-o', 'strange.webp']);
    expect(stdout + stderr).not.toContain('\u001b');
    const { xmp } = await sharp(readFileSync(place.path('strange.webp'))).metadata();
    const [, comment = ''] = xmp?.toString().match(/x-default">([^<]*)</) ?? [];
    expect(JSON.parse(comment).prompt).toBe(strange);
  });

  it('leaves nothing but the last preview where it is interrupted', async () => {
    const args = [
      'generate',
      MICRO_PIPELINE,
      '--prompt',
      prompt,
      '--device',
      'cpu',
      '--steps',
      '1000',
      '--guidance',
      '1',
    ];
    const { child, outcome } = place.start([...args, '-o', 'late.mp4', '--preview', 'now.png', '--preview-every', '1']);
    await until(() => existsSync(place.path('now.png')));
    child.kill('SIGINT');
    expect((await outcome).code).toBe(130);
    expect(existsSync(place.path('late.mp4'))).toBe(false);
    expect(readdirSync(place.path()).filter((name) => name.includes('.tmp'))).toEqual([]);
    expect(await sharp(readFileSync(place.path('now.png'))).metadata()).toMatchObject({ width: 768, height: 128 });
  });
});

describe('generate refuses', () => {
  beforeAll(() => {
    for (const name of ['there.mp4', 'there.png']) place.write(name, '');
  });

  it.each<[string, string[], ErrorCode, number, string]>([
    ['an unknown extension', [...asked, '-o', 'clip.avi'], 'USAGE', 2, '.mp4, .webp, .gif, .png'],
    ['no extension', [...asked, '-o', 'clip'], 'USAGE', 2, 'clip has no extension'],
    ['an output that exists', [...asked, '-o', 'there.mp4'], 'OUTPUT_EXISTS', 2, 'wanq never overwrites'],
    ['an output below a file', [...asked, '-o', 'there.mp4/clip.mp4'], 'NOT_FOUND', 5, 'there.mp4/clip.mp4'],
    ['an empty output', [...asked, '-o', ''], 'USAGE', 2, ''],
    ['no output', asked, 'USAGE', 2, '--output'],
    ['no prompt', [...generate, '-o', 'out.mp4'], 'USAGE', 2, '--prompt'],
    ['an empty prompt', [...generate, '--prompt', ' ', '-o', 'out.mp4'], 'PROMPTS_EMPTY', 2, 'the prompt is empty'],
    ['an odd size', [...asked, '-o', 'out.mp4', '--height', '127'], 'USAGE', 2, 'multiple of 32'],
    ['a size the VAE does not decode', [...asked, '-o', 'out.mp4', '--frames', '21'], 'USAGE', 2, 'one size'],
    ['part of a frame a second', [...asked, '-o', 'out.mp4', '--fps', '23.976'], 'USAGE', 2, 'whole number'],
    ['a preview that exists', [...asked, '-o', 'out.mp4', '--preview', 'there.png'], 'OUTPUT_EXISTS', 2, 'there.png'],
    ['previews without a file', [...asked, '-o', 'out.mp4', '--preview-every', '2'], 'USAGE', 2, '--preview FILE.png'],
    ['a folder that is no pipeline', ['generate', '.', '--prompt', 'a', '-o', 'out.mp4'], 'NOT_A_PIPELINE', 3, ''],
    ['a folder that is not there', ['generate', 'none', '--prompt', 'a', '-o', 'out.mp4'], 'NOT_FOUND', 5, 'none'],
  ])('%s in one line, and leaves nothing', async (_, args, code, exit, says) => {
    await expectMistakeIn(place, args, code, exit, says);
  });

  it.runIf(process.platform === 'linux')('a place where nobody may write', async () => {
    const { code, stderr } = await place.wanq([...asked, '-o', '/proc/clip.mp4']);
    expect(stderr).toMatch(/^wanq: .*\/proc\/clip\.mp4.* \[NOT_WRITABLE\]\n$/);
    expect(code).toBe(5);
  });
});
