import path from 'node:path';
import { WanqError } from '../errors.js';
import { MAX_PROMPT_LENGTH, MAX_STEPS } from '../limits.js';
import { loadGraph } from '../onnx/load.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { describePipeline, type PipelineShape } from '../pipeline/open.js';
import { readScheduler } from '../pipeline/schedulers/index.js';
import type { Scheduler } from '../pipeline/schedulers/scheduler.js';
import { assertWritable, refuseExisting, withOutput, writeAtomic } from '../util/files.js';
import { makeVideo } from './make-video.js';
import { type GenerateOptions, type GenerateSummary, MAX_FPS } from './options.js';
import { describePrecision } from './precision.js';
import { commentOf } from './provenance.js';
import { writerFor } from './writers/index.js';

/**
 * Makes a video of a prompt and writes it: `.mp4`, `.webp` and `.gif` play, `.png` is a contact sheet. The same seed gives the same bytes on one
 * machine.
 *
 * @throws WanqError USAGE, PROMPTS_EMPTY, OUTPUT_EXISTS and of the pipeline before anything runs; of the runtime; NOT_WRITABLE, NO_SPACE
 */
export async function generate(options: GenerateOptions): Promise<GenerateSummary> {
  const { output, preview, steps } = options;
  refuseInvalid(options);
  const writer = writerFor(output);
  for (const file of [output, ...(preview ? [preview.file] : [])]) {
    await refuseExisting(file);
    await assertWritable(file);
  }
  const folder = await PipelineFolder.open(options.pipeline);
  for (const component of ['text_encoder', 'vae_decoder'] as const) {
    await folder.require(component, 'making a video of a prompt');
  }
  const shape = await describePipeline(folder, options);
  writer.check?.(shape.video);
  const scheduler = (await readScheduler(folder))(steps);
  const precision = describePrecision(await loadGraph(folder.modelPath('transformer')));
  return withOutput(output, () => generateInto(options, { writer, folder, shape, scheduler, precision }));
}

interface Opened {
  readonly writer: ReturnType<typeof writerFor>;
  readonly folder: PipelineFolder;
  readonly shape: PipelineShape;
  readonly scheduler: Scheduler;
  readonly precision: string;
}

async function generateInto(
  options: GenerateOptions,
  { writer, folder, shape, scheduler, precision }: Opened,
): Promise<GenerateSummary> {
  const { output, prompt, negativePrompt, seed, steps, guidance, fps, signal } = options;
  const { video, ...made } = await makeVideo(folder, shape, scheduler, options);
  options.onProgress?.({ stage: 'writing', done: steps, total: steps });
  const began = performance.now();
  const facts = { prompt, negativePrompt, seed, steps, guidance, scheduler: made.scheduler, precision };
  const comment = options.metadata ? commentOf(facts) : undefined;
  const bytes = await writer.encode(video, { fps, comment, signal });
  await refuseExisting(output);
  await writeAtomic(output, [bytes]);
  const { frames, height, width } = video;
  return {
    output,
    bytes: bytes.byteLength,
    ...facts,
    ...{ frames, height, width, fps },
    device: options.device,
    ...made,
    writingMs: performance.now() - began,
  };
}

/** What a command line checks itself, for those who call the function. */
function refuseInvalid({ prompt, negativePrompt, steps, fps, preview, output }: GenerateOptions): void {
  const fail = (message: string, hint: string): never => {
    throw new WanqError('USAGE', message, { hint });
  };
  if (prompt.trim() === '') throw new WanqError('PROMPTS_EMPTY', 'the prompt is empty', { hint: 'say what to show' });
  for (const text of [prompt, negativePrompt]) {
    if (text.length > MAX_PROMPT_LENGTH) {
      fail(`a prompt of ${text.length} characters is longer than ${MAX_PROMPT_LENGTH}`, 'shorten it');
    }
  }
  const counts = [
    { name: 'steps', value: steps, most: MAX_STEPS },
    { name: 'fps', value: fps, most: MAX_FPS },
    ...(preview ? [{ name: 'steps between previews', value: preview.every, most: MAX_STEPS }] : []),
  ];
  for (const { name, value, most } of counts) {
    if (!Number.isInteger(value) || value < 1 || value > most) {
      fail(`${name} must be a whole number from 1 to ${most}, and is ${value}`, 'choose another');
    }
  }
  if (!preview) return;
  if (path.extname(preview.file).toLowerCase() !== '.png') fail('a preview is a .png file', 'end its name in .png');
  if (path.resolve(preview.file) === path.resolve(output)) {
    fail('the preview and the video are one file', 'give them different names');
  }
}
