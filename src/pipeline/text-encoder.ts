import { WanqError } from '../errors.js';
import { loadGraph } from '../onnx/load.js';
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

/**
 * Encodes prompts with the pipeline's tokenizer and UMT5 encoder. Each distinct prompt is encoded once; the session is closed afterwards,
 * since the encoder is larger than the transformer.
 *
 * @throws WanqError PIPELINE_INVALID, TOKENIZER_INVALID, RUNTIME_FAILED
 */
export async function encodePrompts(
  folder: PipelineFolder,
  host: RuntimeHost,
  options: SessionOptions,
  prompts: readonly string[],
): Promise<Map<string, PromptEmbeddings>> {
  const file = await folder.require('text_encoder', 'turning prompts into embeddings');
  const { inputs, outputs } = (await loadGraph(file)).graph;
  const [idsInput, maskInput] = [
    inputs.find(({ name }) => name === 'input_ids'),
    inputs.find(({ name }) => name === 'attention_mask'),
  ];
  const output = outputs[0]?.name;
  if (!idsInput || output === undefined) {
    throw new WanqError('MODEL_UNSUPPORTED', `${file} has no input_ids input`, { hint: 'export a UMT5 encoder' });
  }
  const tokenizer = await PromptTokenizer.open(folder, fixedDim(idsInput, 1));
  const session = await host.createSession({ path: file }, options);
  const embeddings = new Map<string, PromptEmbeddings>();
  for (const prompt of new Set(prompts)) {
    const { ids, mask } = tokenizer.encode(prompt);
    const feeds: Record<string, HostTensor> = { input_ids: integers(ids, idsInput.dtype) };
    if (maskInput) feeds.attention_mask = integers(mask, maskInput.dtype);
    const result = (await session.run(feeds, [output])).outputs[output] as HostTensor;
    const features = result.dims.at(-1) as number;
    const data = toFloat32(result);
    mask.forEach((kept, row) => {
      if (kept === 0) data.fill(0, row * features, (row + 1) * features);
    });
    embeddings.set(prompt, { data, length: ids.length, features });
  }
  await session.release();
  return embeddings;
}

function integers(values: readonly number[], dtype: string | null): HostTensor {
  const dims = [1, values.length];
  return dtype === 'int32'
    ? { dtype: 'int32', dims, data: Int32Array.from(values) }
    : { dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) };
}
