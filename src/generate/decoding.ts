import type { LatentShape } from '../pipeline/geometry.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import { VaeDecoder, type Video } from '../pipeline/vae.js';
import { RuntimeHost } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import type { PartCost } from './options.js';

interface Opened {
  readonly host: RuntimeHost;
  readonly decoder: VaeDecoder;
}

/** A pipeline's VAE decoder, loaded in a process of its own when it is first needed. */
export class Decoding {
  readonly #folder: PipelineFolder;
  readonly #shape: LatentShape;
  readonly #session: SessionOptions;
  readonly #signal: AbortSignal | undefined;
  #host: RuntimeHost | undefined;
  #decoder: VaeDecoder | undefined;
  #ms = 0;

  constructor(folder: PipelineFolder, shape: LatentShape, session: SessionOptions, signal: AbortSignal | undefined) {
    this.#folder = folder;
    this.#shape = shape;
    this.#session = session;
    this.#signal = signal;
  }

  get loaded(): boolean {
    return this.#decoder !== undefined;
  }

  /** @throws WanqError as {@link VaeDecoder.open} */
  async decode(latents: Float32Array): Promise<Video> {
    const began = performance.now();
    const { decoder } = await this.#open();
    const video = await decoder.decode(latents, this.#shape);
    this.#ms += performance.now() - began;
    return video;
  }

  async cost(): Promise<PartCost> {
    const { host, decoder } = await this.#open();
    const { peakBytes } = await host.status();
    return { provider: decoder.provider, ms: this.#ms, peakBytes };
  }

  async close(): Promise<void> {
    await this.#host?.close();
  }

  async #open(): Promise<Opened> {
    this.#host ??= new RuntimeHost({ signal: this.#signal });
    this.#decoder ??= await VaeDecoder.open(this.#folder, this.#host, this.#session);
    return { host: this.#host, decoder: this.#decoder };
  }
}
