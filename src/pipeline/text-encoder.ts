import { WanqError } from '../errors.js';
import type { Graph, Value } from '../ir/graph.js';
import { loadRunnable } from '../onnx/load.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import { type HostTensor, toFloat32 } from '../runtime/tensor.js';
import type { PipelineFolder } from './layout.js';
import { fixedDim } from './signature.js';
import { PromptTokenizer } from './tokenizer.js';

/** Text embeddings of one prompt, `[length, features]`; rows of padding are zero, as diffusers' WanPipeline makes them. */
export interface PromptEmbeddings {
  readonly data: Float32Array;
  readonly length: number;
  readonly features: number;
}

/** Prompt tokens of Wan2.2-TI2V-5B. */
const DEFAULT_LENGTH = 512;

/** A pipeline's tokenizer and UMT5 encoder, not yet in memory. */
export class TextEncoder {
  /** Text tokens of a prompt, padding included. */
  readonly length: number;
  /** Bytes of the encoder's weights. */
  readonly weightBytes: number;
  readonly #file: string;
  readonly #ids: Value;
  readonly #mask: Value | undefined;
  readonly #output: string;
  readonly #tokenizer: PromptTokenizer;

  private constructor(file: string, graph: Graph, ids: Value, output: string, tokenizer: PromptTokenizer) {
    this.#file = file;
    this.#ids = ids;
    this.#mask = graph.inputs.find(({ name }) => name === 'attention_mask');
    this.#output = output;
    this.#tokenizer = tokenizer;
    this.length = fixedDim(ids, 1) ?? DEFAULT_LENGTH;
    this.weightBytes = graph.weightBytes;
  }

  /** @throws WanqError PIPELINE_INVALID, TOKENIZER_INVALID, MODEL_UNSUPPORTED */
  static async open(folder: PipelineFolder): Promise<TextEncoder> {
    const file = await folder.require('text_encoder', 'turning prompts into embeddings');
    const { graph } = await loadRunnable(file);
    const ids = graph.inputs.find(({ name }) => name === 'input_ids');
    const output = graph.outputs[0]?.name;
    if (!ids || output === undefined) {
      throw new WanqError('MODEL_UNSUPPORTED', `${file} has no input_ids input`, { hint: 'export a UMT5 encoder' });
    }
    return new TextEncoder(file, graph, ids, output, await PromptTokenizer.open(folder, fixedDim(ids, 1)));
  }

  /**
   * Encodes each distinct prompt once. The session is closed afterwards, since the encoder is larger than the transformer.
   * @returns the execution provider that ran it
   * @throws WanqError RUNTIME_FAILED
   */
  async encode(
    host: RuntimeHost,
    options: SessionOptions,
    prompts: readonly string[],
    keep: (prompt: string, embeddings: PromptEmbeddings) => void | Promise<void>,
  ): Promise<string> {
    const session = await host.createSession({ path: this.#file }, options);
    for (const prompt of new Set(prompts)) {
      const { ids, mask } = this.#tokenizer.encode(prompt);
      const feeds: Record<string, HostTensor> = { input_ids: integers(ids, this.#ids.dtype) };
      if (this.#mask) feeds.attention_mask = integers(mask, this.#mask.dtype);
      const result = (await session.run(feeds, [this.#output])).outputs[this.#output] as HostTensor;
      const features = result.dims.at(-1) as number;
      const data = toFloat32(result);
      mask.forEach((kept, row) => {
        if (kept === 0) data.fill(0, row * features, (row + 1) * features);
      });
      await keep(prompt, { data, length: ids.length, features });
    }
    await session.release();
    return session.info.provider;
  }
}

/**
 * Encodes prompts with the pipeline's text encoder.
 * @throws WanqError as {@link TextEncoder}
 */
export async function encodePrompts(
  folder: PipelineFolder,
  host: RuntimeHost,
  options: SessionOptions,
  prompts: readonly string[],
): Promise<Map<string, PromptEmbeddings>> {
  const embeddings = new Map<string, PromptEmbeddings>();
  const encoder = await TextEncoder.open(folder);
  await encoder.encode(host, options, prompts, (prompt, encoded) => {
    embeddings.set(prompt, encoded);
  });
  return embeddings;
}

function integers(values: readonly number[], dtype: string | null): HostTensor {
  const dims = [1, values.length];
  return dtype === 'int32'
    ? { dtype: 'int32', dims, data: Int32Array.from(values) }
    : { dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) };
}
