import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { gifWriter } from '../../../../src/generate/writers/gif.js';
import { webpWriter } from '../../../../src/generate/writers/webp.js';
import type { Video } from '../../../../src/pipeline/vae.js';
import { temporaryFolder } from '../../helpers/temporary.js';

/** One frame of a video, as an image. */
export function frameOf({ data, height, width }: Video, frame: number): Sharp {
  const size = height * width * 3;
  return sharp(data.subarray(frame * size, (frame + 1) * size), { raw: { height, width, channels: 3 } });
}

/** A folder of clips, removed when the running test ends. */
export class ClipFolder {
  readonly root: string;

  private constructor(root: string) {
    this.root = root;
  }

  static async make(): Promise<ClipFolder> {
    return new ClipFolder(await temporaryFolder());
  }

  async write(name: string, content: string | Uint8Array): Promise<string> {
    const file = path.join(this.root, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
    return file;
  }

  prompt(name: string, text = `the prompt of ${name}`): Promise<string> {
    return this.write(`${name}.txt`, text);
  }

  /** An animation without loss, or as good as that. */
  async animation(name: string, video: Video): Promise<void> {
    const writer = name.endsWith('.gif') ? gifWriter : webpWriter;
    await this.write(name, await writer.encode(video, { fps: 8, comment: undefined }));
  }

  /** Frames as files `name(i)`, PNG unless `image` makes another format. */
  async frames(
    video: Video,
    name: (frame: number) => string,
    image: (frame: Sharp) => Sharp = (frame) => frame.png(),
  ): Promise<void> {
    for (let i = 0; i < video.frames; i++) await this.write(name(i), await image(frameOf(video, i)).toBuffer());
  }
}
