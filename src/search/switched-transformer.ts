import path from 'node:path';
import { printable } from '../errors.js';
import { saveModel } from '../onnx/save.js';
import { convertOpset } from '../passes/convert-opset.js';
import { runPasses } from '../passes/pass.js';
import { SCALE_OPSET } from '../passes/quantize-linears.js';
import { SWITCH_INPUT, switchLinears } from '../passes/switch-linears.js';
import { topologicalSort } from '../passes/topological-sort.js';
import { type DenoiserInput, type TransformerFace, transformerFeeds, velocityOf } from '../pipeline/denoise.js';
import type { RuntimeHost, Session } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import type { HostTensor } from '../runtime/tensor.js';
import { assertSpace } from '../util/files.js';
import type { Subject } from './subject.js';

/** A transformer of which any candidates run quantized, from one call to the next. */
export class SwitchedTransformer {
  readonly #session: Session;
  readonly #face: TransformerFace;
  readonly #switches: number;

  private constructor(session: Session, face: TransformerFace, switches: number) {
    this.#session = session;
    this.#face = face;
    this.#switches = switches;
  }

  /**
   * Writes the graph with both forms of every candidate and opens it. Changes the subject's graph.
   *
   * @param folder an empty one, for the weights of both forms
   * @throws WanqError NO_SPACE, RUNTIME_FAILED and those of reading
   */
  static async open(
    host: RuntimeHost,
    { loaded, candidates }: Subject,
    face: TransformerFace,
    folder: string,
    options: SessionOptions,
  ): Promise<SwitchedTransformer> {
    const { model } = loaded;
    const linears = candidates.map(({ switched }) => switched);
    const opset = Math.max(...linears.map(({ quantized: { scaleType = 'float32' } }) => SCALE_OPSET[scaleType]));
    runPasses(model, [...(model.opset < opset ? [convertOpset(opset)] : []), switchLinears(linears), topologicalSort]);
    await assertSpace(
      folder,
      model.graph.weightBytes,
      `${printable(folder)}, for both forms of the weights,`,
      'name an output there',
    );
    await saveModel(model, loaded, folder);
    const session = await host.createSession({ path: path.join(folder, 'model.onnx') }, options);
    return new SwitchedTransformer(session, face, linears.length);
  }

  /** Execution provider that runs it. */
  get provider(): string {
    return this.#session.info.provider;
  }

  /**
   * @param quantized positions among the candidates
   * @returns flow velocity, in the latents' shape
   * @throws WanqError NON_FINITE where the prediction holds NaN or infinity
   */
  async predict(input: DenoiserInput, quantized: readonly number[]): Promise<Float32Array> {
    const data = new Uint8Array(this.#switches);
    for (const i of quantized) data[i] = 1;
    const feeds = {
      ...transformerFeeds(this.#face, input),
      [SWITCH_INPUT]: { dtype: 'bool', dims: [this.#switches], data } as const,
    };
    const { output } = this.#face.signature;
    const { outputs } = await this.#session.run(feeds, [output]);
    return velocityOf(outputs[output] as HostTensor, input.timestep);
  }
}
