import type { Video } from '../pipeline/vae.js';
import { Scratch } from '../util/scratch.js';

/**
 * What a reference pipeline makes, for evaluations of several quantized pipelines one after the other that are alike in all else: it runs and is
 * decoded once.
 */
export class SharedReference {
  readonly scratch: Scratch;
  readonly #made = new Map<string, Promise<unknown>>();
  /** Latents that come again, and where their video lies. */
  readonly #videos = new Map<Float32Array, { readonly key: string; video?: Omit<Video, 'data'> }>();

  private constructor(scratch: Scratch) {
    this.scratch = scratch;
  }

  static async open(): Promise<SharedReference> {
    return new SharedReference(await Scratch.open());
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

  /** Has the videos of these latents kept in the scratch folder. */
  keepVideos(latents: Iterable<Float32Array>): void {
    for (const each of latents) {
      if (!this.#videos.has(each)) this.#videos.set(each, { key: `reference${this.#videos.size}.rgb` });
    }
  }

  async video(latents: Float32Array, decode: (latents: Float32Array) => Promise<Video>): Promise<Video> {
    const place = this.#videos.get(latents);
    if (place?.video) return { ...place.video, data: await this.scratch.getBytes(place.key) };
    const decoded = await decode(latents);
    if (place) {
      const { data, ...size } = decoded;
      await this.scratch.putBytes(place.key, data);
      place.video = size;
    }
    return decoded;
  }
}
