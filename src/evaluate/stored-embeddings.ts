import type { PipelineFolder } from '../pipeline/layout.js';
import { type PromptEmbeddings, TextEncoder } from '../pipeline/text-encoder.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import type { Scratch } from '../util/scratch.js';

interface Place {
  readonly key: string;
  readonly length: number;
  readonly features: number;
}

/** Embeddings of prompts in a scratch folder: those of the 5B are 8 MB a prompt. */
export class StoredEmbeddings {
  readonly #scratch: Scratch;
  readonly #places: ReadonlyMap<string, Place>;

  private constructor(scratch: Scratch, places: ReadonlyMap<string, Place>) {
    this.#scratch = scratch;
    this.#places = places;
  }

  /**
   * Encodes each distinct prompt once.
   * @param name of the encoder, which keys begin with
   * @throws WanqError as {@link TextEncoder}
   */
  static async encode(
    prompts: readonly string[],
    { folder, host, session }: { folder: PipelineFolder; host: RuntimeHost; session: SessionOptions },
    scratch: Scratch,
    name: string,
  ): Promise<StoredEmbeddings> {
    const places = new Map<string, Place>();
    const encoder = await TextEncoder.open(folder);
    await encoder.encode(host, session, prompts, async (prompt, { data, length, features }) => {
      const key = `${name}-embedding${places.size}`;
      await scratch.put(key, data);
      places.set(prompt, { key, length, features });
    });
    return new StoredEmbeddings(scratch, places);
  }

  /** Rows of an embedding; 0 for a prompt that was not encoded. */
  lengthOf(prompt: string): number {
    return this.#places.get(prompt)?.length ?? 0;
  }

  async get(prompt: string): Promise<PromptEmbeddings> {
    const place = this.#places.get(prompt);
    if (!place) throw new Error('a prompt was not encoded');
    return { data: await this.#scratch.get(place.key), length: place.length, features: place.features };
  }
}
