import { realpath } from 'node:fs/promises';
import { printable } from '../../errors.js';
import { MAX_PROMPT_LENGTH, MAX_PROMPTS } from '../../limits.js';
import type { Video } from '../../pipeline/vae.js';
import { readText } from '../../util/files.js';
import { readAnimation } from './animation.js';
import { assertFfmpeg, DEMUXERS, readWithFfmpeg } from './ffmpeg.js';
import { type Entry, listFolder } from './folder.js';
import { readFrames } from './frames.js';
import { type ClipSize, type ClipSource, invalid } from './source.js';

const ANIMATIONS = ['.webp', '.gif'];
const PROMPT = '.txt';
const EXTENSIONS: ReadonlySet<string> = new Set([...ANIMATIONS, ...Object.keys(DEMUXERS), PROMPT]);

/** A folder of clips: `NAME.webp`, `.gif`, `.mp4`, `.mov`, `.webm`, `.mkv` or a folder `NAME` of numbered frames, with a prompt in `NAME.txt`. */
export class FolderClips implements ClipSource {
  readonly prompts: readonly string[];
  readonly #root: string;
  readonly #entries: readonly Entry[];
  readonly #size: ClipSize;
  readonly #signal: AbortSignal | undefined;

  private constructor(
    root: string,
    clips: readonly { entry: Entry; prompt: string }[],
    size: ClipSize,
    signal: AbortSignal | undefined,
  ) {
    this.#root = root;
    this.#entries = clips.map(({ entry }) => entry);
    this.prompts = clips.map(({ prompt }) => prompt);
    this.#size = size;
    this.#signal = signal;
  }

  /** @throws WanqError CLIPS_INVALID where a clip has no prompt or a prompt no clip; NOT_FOUND, NOT_READABLE */
  static async open(folder: string, size: ClipSize, signal: AbortSignal | undefined): Promise<FolderClips> {
    const root = await realpath(folder);
    const entries = await listFolder(folder, root, EXTENSIONS);
    const texts = new Map(entries.filter(isPrompt).map((entry) => [entry.stem, entry]));
    const clips: { entry: Entry; prompt: string }[] = [];
    const seen = new Map<string, Entry>();
    for (const entry of entries.filter((each) => !isPrompt(each))) {
      const { stem, name } = entry;
      const other = seen.get(stem);
      if (other) {
        throw invalid(
          `${printable(folder)} has two clips for one prompt: ${printable(other.name, 80)} and ${printable(name, 80)}`,
          'give them different names',
        );
      }
      seen.set(stem, entry);
      const text = texts.get(stem);
      if (!text) throw invalid(`${printable(entry.file)} has no prompt`, `write it to ${printable(stem, 80)}${PROMPT}`);
      clips.push({ entry, prompt: await readPrompt(text.file) });
    }
    const alone = [...texts.values()].find(({ stem }) => !seen.has(stem));
    if (alone)
      throw invalid(`${printable(alone.file)} is a prompt without a clip`, 'add the clip or remove the prompt');
    if (clips.length === 0 || clips.length > MAX_PROMPTS) {
      const what = clips.length === 0 ? 'no clips' : `${clips.length} clips, more than ${MAX_PROMPTS}`;
      throw invalid(
        `${printable(folder)} holds ${what}`,
        'each is a video NAME.webp or NAME.mp4 and a prompt NAME.txt',
      );
    }
    const video = clips.find(({ entry }) => Object.hasOwn(DEMUXERS, entry.extension));
    if (video) await assertFfmpeg(video.entry.file);
    return new FolderClips(root, clips, size, signal);
  }

  get count(): number {
    return this.#entries.length;
  }

  video(index: number): Promise<Video> {
    const { file, isFolder, extension } = this.#entries[index] as Entry;
    if (isFolder) return readFrames(file, this.#root, this.#size);
    if (ANIMATIONS.includes(extension)) return readAnimation(file, this.#size);
    return readWithFfmpeg(file, extension, this.#size, this.#signal);
  }

  async close(): Promise<void> {}
}

function isPrompt({ isFolder, extension }: Entry): boolean {
  return !isFolder && extension === PROMPT;
}

async function readPrompt(file: string): Promise<string> {
  // Up to four bytes a character.
  const prompt = (await readText(file, 4 * MAX_PROMPT_LENGTH)).trim();
  if (prompt === '') throw invalid(`${printable(file)} is empty`, 'write what the clip shows');
  return prompt;
}
