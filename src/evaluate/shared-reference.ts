import type { Video } from '../pipeline/vae.js';
import { Scratch } from '../util/scratch.js';

/**
 * What a reference pipeline makes, for evaluations of several quantized pipelines one after the other that are alike in all else: it runs and is
 * decoded once.
 */
export class SharedReference {
  readonly scratch: Scratch;
  readonly #made = new Map<string, Promise<unknown>>();
  /** Latents whose video is kept, by their key, with its size once there is one. */
  readonly #videos = new Map<string, Omit<Video, 'data'> | undefined>();

  private constructor(scratch: Scratch) {
    this.scratch = scratch;
  }

  /** @param scratch where it keeps things; absent: a folder of its own */
  static async open(scratch?: Scratch): Promise<SharedReference> {
    return new SharedReference(scratch ?? (await Scratch.open()));
  }

  close(): Promise<void> {
    return this.scratch.close();
  }

  /** @returns what `make` made when it was first asked for; what failed is made anew */
  async once<T>(what: string, make: () => Promise<T>): Promise<T> {
    const known = this.#made.get(what) as Promise<T> | undefined;
    if (known) return known;
    const made = make();
    this.#made.set(what, made);
    return made.catch((error) => {
      this.#made.delete(what);
      throw error;
    });
  }

  /** Has the videos of the latents under these keys kept in the scratch folder. */
  keepVideos(keys: Iterable<string>): void {
    for (const key of keys) if (!this.#videos.has(key)) this.#videos.set(key, undefined);
  }

  /** @param decode makes the video of the latents under `key` */
  async video(key: string, decode: () => Promise<Video>): Promise<Video> {
    const size = this.#videos.get(key);
    if (size) return { ...size, data: await this.scratch.getBytes(`${key}.rgb`) };
    const decoded = await decode();
    if (this.#videos.has(key)) {
      const { data, ...rest } = decoded;
      await this.scratch.putBytes(`${key}.rgb`, data);
      this.#videos.set(key, rest);
    }
    return decoded;
  }
}
