import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { psnr } from '../../../src/evaluate/metrics/psnr.js';
import { generate } from '../../../src/generate/generate.js';
import { makeVideo } from '../../../src/generate/make-video.js';
import type { GenerateOptions, GenerateProgress } from '../../../src/generate/options.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { describePipeline } from '../../../src/pipeline/open.js';
import { readScheduler, schedulerFrom } from '../../../src/pipeline/schedulers/index.js';
import { readSafetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { expectRejection } from '../../unit/helpers/errors.js';
import { temporaryFolder } from '../support/environment.js';

/** Seeds the golden runs of diffusers were made with. */
const SEEDS = [40, 41, 42];

const folder = temporaryFolder();

const basic: GenerateOptions = {
  pipeline: MICRO_PIPELINE,
  prompt: 'a small red circle moving left over a dark background',
  negativePrompt: '',
  steps: 3,
  guidance: 3,
  seed: 5,
  device: 'cpu',
  fps: 8,
  output: path.join(folder, 'clip.png'),
  metadata: true,
};

const output = (name: string): string => path.join(folder, name);

describe("the video of diffusers' golden run", () => {
  it.each(SEEDS.map((seed, index) => [index, seed]))('%i is made of its seed, %i', async (index, seed) => {
    const golden = await readSafetensors(path.join(MICRO, 'golden', 'trajectories.safetensors'));
    const c = JSON.parse(golden.metadata.cases as string)[index];
    const pipeline = await PipelineFolder.open(MICRO_PIPELINE);
    const scheduler =
      c.scheduler === 'unipc'
        ? await readScheduler(pipeline)
        : schedulerFrom({ _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 5 }, 'test');
    const { video, transformer } = await makeVideo(pipeline, await describePipeline(pipeline, {}), scheduler(c.steps), {
      ...basic,
      prompt: c.prompt,
      negativePrompt: c.negative_prompt,
      guidance: c.guidance_scale,
      seed,
    });
    const expected = golden.tensors.get(`${index}.video`)?.data as Uint8Array;
    expect(psnr(expected, video.data)).toBeGreaterThan(55);
    expect(transformer.forwards).toBe(c.steps * (c.guidance_scale > 1 ? 2 : 1));
  });
});

describe('generate', () => {
  it.each(['mp4', 'webp'])('makes the same bytes of one seed, and others of another: .%s', async (format) => {
    const make = async (name: string, seed: number): Promise<Buffer> => {
      const file = output(`${name}.${format}`);
      await generate({ ...basic, steps: 1, guidance: 1, seed, output: file });
      return readFile(file);
    };
    const first = await make('first', 1);
    expect((await make('again', 1)).equals(first)).toBe(true);
    expect((await make('other', 2)).equals(first)).toBe(false);
  });

  it('says what it made, of what and at what cost', async () => {
    const file = output('said.webp');
    const seen: GenerateProgress[] = [];
    const summary = await generate({ ...basic, output: file, onProgress: (progress) => seen.push(progress) });
    const part = { provider: 'cpu', ms: expect.any(Number), peakBytes: expect.any(Number) };
    const peaks = [summary.textEncoder, summary.transformer, summary.vaeDecoder].map(({ peakBytes }) => peakBytes);
    expect(summary).toEqual({
      output: file,
      bytes: (await stat(file)).size,
      ...{ prompt: basic.prompt, negativePrompt: '', seed: 5, steps: 3, guidance: 3, fps: 8, device: 'cpu' },
      scheduler: 'UniPCMultistepScheduler',
      precision: 'FP32',
      ...{ frames: 17, height: 128, width: 128 },
      textEncoder: part,
      transformer: { ...part, forwards: 6 },
      vaeDecoder: part,
      writingMs: expect.any(Number),
      peakBytes: Math.max(...peaks),
      truncatedTimesteps: false,
    });
    const stages = [
      'text encoder 0',
      ...[0, 1, 2, 3].map((step) => `transformer ${step}`),
      'vae decoder 3',
      'writing 3',
    ];
    expect(seen.map(({ stage, done }) => `${stage} ${done}`)).toEqual(stages);
    const { pages, xmp } = await sharp(await readFile(file), { animated: true }).metadata();
    expect(pages).toBe(17);
    expect(xmp?.toString()).toContain(basic.prompt);
  });

  it('keeps prompts out of the file where it is told to', async () => {
    const file = output('silent.webp');
    await generate({ ...basic, steps: 1, output: file, metadata: false });
    expect((await sharp(await readFile(file)).metadata()).xmp).toBeUndefined();
  });

  it('shows what the video is about to be, with the decoder beside the transformer', async () => {
    const preview = { file: output('preview.png'), every: 2 };
    const shown: string[] = [];
    const made = await generate({
      ...{ ...basic, guidance: 1, steps: 6, output: output('previewed.png'), preview },
      onProgress: ({ stage, done }) => {
        if (stage === 'preview') shown.push(`${done}`);
      },
    });
    expect(shown).toEqual(['2', '4']);
    expect(await sharp(preview.file).metadata()).toMatchObject({ width: 6 * 128, height: 128 });
    expect(made.peakBytes).toBe(made.transformer.peakBytes + made.vaeDecoder.peakBytes);
    // Decoding on the way leaves the video as it is.
    await generate({ ...basic, guidance: 1, steps: 6, output: output('plain.png') });
    expect((await readFile(output('plain.png'))).equals(await readFile(output('previewed.png')))).toBe(true);
  });

  it.each<[string, Partial<GenerateOptions>, 'USAGE' | 'PROMPTS_EMPTY']>([
    ['an empty prompt', { prompt: ' \n' }, 'PROMPTS_EMPTY'],
    ['a prompt without end', { prompt: 'a'.repeat(10_001) }, 'USAGE'],
    ['a negative prompt without end', { negativePrompt: 'a'.repeat(10_001) }, 'USAGE'],
    ['half a frame a second', { fps: 0.5 }, 'USAGE'],
    ['no steps', { steps: 0 }, 'USAGE'],
    ['a preview that is no PNG', { preview: { file: 'preview.jpg', every: 1 } }, 'USAGE'],
    ['a preview that is never made', { preview: { file: 'preview.png', every: 0 } }, 'USAGE'],
    ['a preview in place of the video', { preview: { file: basic.output, every: 1 } }, 'USAGE'],
    ['a device that is none', { device: 'abacus' }, 'USAGE'],
  ])('refuses %s before it computes anything', async (_, change, code) => {
    const seen: GenerateProgress[] = [];
    await expectRejection(generate({ ...basic, ...change, onProgress: (progress) => seen.push(progress) }), code);
    expect(seen).toEqual([]);
  });
});
