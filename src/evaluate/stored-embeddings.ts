import type { PipelineFolder } from '../pipeline/layout.js';
import { type PromptEmbeddings, TextEncoder } from '../pipeline/text-encoder.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import type { Scratch } from '../util/scratch.js';

/** Where the embeddings of a prompt are, and their size. */
interface Place {
  readonly prompt: string;
  readonly key: string;
  readonly length: number;
  readonly features: number;
}

/** Embeddings of prompts in a scratch folder: those of the 5B are 8 MB a prompt. */
export class StoredEmbeddings {
  readonly #scratch: Scratch;
  readonly #places: ReadonlyMap<string, Place>;

  /** @param places as {@link encodeInto} returns them */
  constructor(scratch: Scratch, places: readonly Place[]) {
    this.#scratch = scratch;
    this.#places = new Map(places.map((place) => [place.prompt, place]));
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

/**
 * Encodes each distinct prompt once.
 * @param name of the encoder, which keys begin with
 * @throws WanqError as {@link TextEncoder}
 */
export async function encodeInto(
  scratch: Scratch,
  prompts: readonly string[],
  { folder, host, session }: { folder: PipelineFolder; host: RuntimeHost; session: SessionOptions },
  name: string,
): Promise<Place[]> {
  const places: Place[] = [];
  const encoder = await TextEncoder.open(folder);
  await encoder.encode(host, session, prompts, async (prompt, { data, length, features }) => {
    const key = `${name}-embedding${places.length}`;
    await scratch.put(key, data);
    places.push({ prompt, key, length, features });
  });
  return places;
}
