import { z } from 'zod';
import { printable } from '../../errors.js';
import type { Video } from '../../pipeline/vae.js';
import { parseJson } from '../../util/json.js';
import { SafetensorsFile } from '../../util/safetensors.js';
import { type ClipSize, type ClipSource, invalid } from './source.js';

const NAME = 'clips';

/** Clips of a `.safetensors` file: `clips` U8 `[N, frames, height, width, 3]`, metadata `prompts`, a JSON list of N texts. */
export class SafetensorsClips implements ClipSource {
  readonly prompts: readonly string[];
  readonly #file: SafetensorsFile;
  readonly #size: ClipSize;

  private constructor(file: SafetensorsFile, prompts: readonly string[], size: ClipSize) {
    this.#file = file;
    this.prompts = prompts;
    this.#size = size;
  }

  /** @throws WanqError CLIPS_INVALID, also for clips of another size; SAFETENSORS_INVALID, NOT_FOUND, NOT_READABLE */
  static async open(name: string, size: ClipSize): Promise<SafetensorsClips> {
    const file = await SafetensorsFile.open(name);
    try {
      return new SafetensorsClips(file, readPrompts(name, file, size), size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get count(): number {
    return this.prompts.length;
  }

  async video(index: number): Promise<Video> {
    const { data } = await this.#file.read(NAME, [index, index + 1]);
    const { frames, height, width } = this.#size;
    return { data: data as Uint8Array, frames, height, width };
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function readPrompts(name: string, { entries, metadata }: SafetensorsFile, wanted: ClipSize): string[] {
  const fail = (why: string): never => {
    throw invalid(
      `${printable(name)} ${why}`,
      'it needs `clips` U8 [N, frames, height, width, 3] and a JSON list of N `prompts` in its metadata',
    );
  };
  const clips = entries.get(NAME);
  if (clips?.dtype !== 'U8' || clips.shape.length !== 5 || clips.shape[4] !== 3) return fail('holds no clips');
  const [count, ...size] = clips.shape.slice(0, 4) as [number, number, number, number];
  let json: unknown;
  try {
    json = parseJson(metadata.prompts ?? '');
  } catch {
    return fail('has no readable list of prompts');
  }
  const prompts = z.array(z.string()).length(count).safeParse(json);
  if (!prompts.success || count === 0) return fail(`needs one prompt for each of its ${count} clips`);
  const [is, should] = [size, [wanted.frames, wanted.height, wanted.width]].map((sides) => sides.join(' x '));
  if (is !== should) {
    throw invalid(
      `${printable(name)} holds clips of ${is}, and the pipeline makes ${should}`,
      'cut and scale the clips to that size (frames x height x width), or give --frames, --height and --width',
    );
  }
  return prompts.data;
}
