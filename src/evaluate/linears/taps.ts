import { deriveSeed, MersenneTwister } from '../../numerics/rng.js';
import { decodeModel, encodeModel } from '../../onnx/codec.js';
import type { LoadedModel } from '../../onnx/load.js';
import { JITTER_INPUT, type ObserverOutputs, observeActivations } from '../../passes/observe-activations.js';
import { runPasses } from '../../passes/pass.js';
import { type DenoiserInput, type TransformerFace, transformerFeeds } from '../../pipeline/denoise.js';
import type { RuntimeHost, Session } from '../../runtime/host.js';
import type { SessionOptions } from '../../runtime/protocol.js';
import { type HostTensor, toFloat32 } from '../../runtime/tensor.js';

/** A value to look at, with its channels on the last axis. */
export interface TappedValue {
  readonly value: string;
  readonly channels: number;
}

/** A transformer whose inner values come out beside its prediction, on a sample of tokens. */
export class TappedTransformer {
  readonly #session: Session;
  readonly #face: TransformerFace;
  readonly #outputs: ReadonlyMap<string, string>;
  readonly #tokens: number;

  private constructor(session: Session, face: TransformerFace, outputs: ReadonlyMap<string, string>, tokens: number) {
    this.#session = session;
    this.#face = face;
    this.#outputs = outputs;
    this.#tokens = tokens;
  }

  /**
   * @param tokens sampled of each value in each forward
   */
  static async open(
    host: RuntimeHost,
    { loaded, face, options }: { loaded: LoadedModel; face: TransformerFace; options: SessionOptions },
    values: readonly TappedValue[],
    tokens: number,
  ): Promise<TappedTransformer> {
    const outputs: ObserverOutputs[] = [];
    const observed = values.map(({ value, channels }) => ({ value, channels, dtype: undefined }));
    const copy = decodeModel(encodeModel(loaded.model));
    runPasses(copy, [observeActivations({ values: observed, tokens, outputs })]);
    const session = await host.createSession(await loaded.encoded(copy), options);
    const named = values.map(({ value }, i) => [value, outputs[i]?.sample as string] as const);
    return new TappedTransformer(session, face, new Map(named), tokens);
  }

  /**
   * @param position of the call: calls of one position sample the same tokens in every model
   * @returns `[k, channels]` of each value
   */
  async run(input: DenoiserInput, position: number): Promise<ReadonlyMap<string, Float32Array>> {
    const generator = new MersenneTwister(deriveSeed(0, position, 0));
    const data = Float64Array.from({ length: this.#tokens }, () => generator.uniform());
    const jitter: HostTensor = { dtype: 'float64', dims: [this.#tokens], data };
    const feeds = { ...transformerFeeds(this.#face, input), [JITTER_INPUT]: jitter };
    const { outputs } = await this.#session.run(feeds, [...this.#outputs.values()]);
    return new Map([...this.#outputs].map(([value, output]) => [value, toFloat32(outputs[output] as HostTensor)]));
  }
}
