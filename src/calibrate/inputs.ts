import { createHash } from 'node:crypto';
import { printable, WanqError } from '../errors.js';
import { asBytes } from '../ir/tensor.js';
import { bfloat16ToFloat32, halfToFloat32 } from '../numerics/half.js';
import { deriveSeed, randn } from '../numerics/rng.js';
import { branchesAt } from '../pipeline/denoise.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import { fixedDim, type TransformerSignature } from '../pipeline/signature.js';
import { type PromptEmbeddings, TextEncoder } from '../pipeline/text-encoder.js';
import type { RuntimeHost } from '../runtime/host.js';
import type { SessionOptions } from '../runtime/protocol.js';
import { sha256 } from '../util/hash.js';
import { type SafeTensor, SafetensorsFile } from '../util/safetensors.js';
import { Scratch } from '../util/scratch.js';
import type { CalibrationIdentity } from './file.js';

/** What the transformer's text input is fed, one item for each chain. One item is in memory at a time. */
export interface TextInputs {
  readonly kind: CalibrationIdentity['inputs'];
  readonly count: number;
  /** Text tokens of an item, padding included. */
  readonly length: number;
  /** SHA-256 of all that the embeddings come from. */
  readonly hash: string;
  /** Makes the items ready to be asked for. @param indices those that will be */
  prepare(host: RuntimeHost, session: SessionOptions, indices: readonly number[]): Promise<void>;
  cond(index: number): Promise<PromptEmbeddings>;
  uncond(): Promise<PromptEmbeddings>;
  close(): Promise<void>;
}

/** Prompts, embedded by the pipeline's text encoder. @throws WanqError as {@link TextEncoder.open} */
export async function promptInputs(
  folder: PipelineFolder,
  prompts: readonly string[],
  negativePrompt: string,
): Promise<TextInputs & { readonly encoder: TextEncoder }> {
  const encoder = await TextEncoder.open(folder);
  const keys = new Map([...new Set([negativePrompt, ...prompts])].map((text, i) => [text, String(i)]));
  const scratch = await Scratch.open();
  let features = 0;
  const get = async (text: string): Promise<PromptEmbeddings> => {
    const data = await scratch.get(keys.get(text) as string);
    return { data, features, length: data.length / features };
  };
  return {
    encoder,
    kind: 'prompts',
    count: prompts.length,
    length: encoder.length,
    hash: sha256(JSON.stringify([prompts, negativePrompt])),
    prepare: async (host, session, indices) => {
      const wanted = [negativePrompt, ...indices.map((index) => prompts[index] as string)];
      await encoder.encode(host, session, wanted, async (text, embeddings) => {
        features = embeddings.features;
        await scratch.put(keys.get(text) as string, embeddings.data);
      });
    },
    cond: (index) => get(prompts[index] as string),
    uncond: () => get(negativePrompt),
    close: () => scratch.close(),
  };
}

/** Text length and width of Wan2.2-TI2V-5B, for graphs that leave them open. */
const DEFAULT_TEXT = { length: 512, features: 4096 };

/**
 * Seeded normal embeddings in place of a text encoder's: they exercise every layer, and say nothing of the ranges that real prompts reach.
 *
 * @param count chains to run
 */
export function syntheticInputs(count: number, seed: number, { text }: TransformerSignature): TextInputs {
  const length = fixedDim(text, 1) ?? DEFAULT_TEXT.length;
  const features = fixedDim(text, 2) ?? DEFAULT_TEXT.features;
  const draw = async (item: number): Promise<PromptEmbeddings> => ({
    length,
    features,
    data: randn(deriveSeed(seed, item, length, features), length * features),
  });
  return {
    kind: 'synthetic',
    count,
    length,
    hash: sha256(JSON.stringify(['synthetic', count, length, features])),
    prepare: async () => {},
    cond: (index) => draw(index + 1),
    uncond: () => draw(0),
    close: async () => {},
  };
}

const PROMPTS = 'prompt_embeds';
const NEGATIVE = 'negative_prompt_embeds';

/**
 * Embeddings that a text encoder made elsewhere: `prompt_embeds` F32, F16 or BF16 `[prompts, length, features]`, and
 * `negative_prompt_embeds` `[1, length, features]` or `[length, features]` where guidance needs it. The names are those of diffusers'
 * pipelines.
 *
 * @throws WanqError EMBEDDINGS_INVALID naming what is wrong; SAFETENSORS_INVALID, NOT_FOUND
 */
export async function readEmbeddings(
  file: string,
  guidance: number,
  { text }: TransformerSignature,
): Promise<TextInputs> {
  const opened = await SafetensorsFile.open(file);
  const fail = (why: string): never => {
    throw new WanqError('EMBEDDINGS_INVALID', `${printable(file)} ${why}`, {
      hint: `it needs ${PROMPTS} [prompts, length, features], and ${NEGATIVE} [length, features] where guidance is above 1`,
    });
  };
  const hash = createHash('sha256').update('embeddings');
  const width = fixedDim(text, 2);
  const items = async (name: string): Promise<{ count: number; length: number; features: number }> => {
    const { shape, dtype } = opened.entries.get(name) ?? fail(`has no tensor ${name}`);
    const [count, length, features] = shape.length === 2 ? [1, ...shape] : shape;
    if (shape.length > 3 || !count || !length || !features) return fail(`has an empty ${name}, or one of a wrong rank`);
    if (width !== undefined && features !== width) {
      return fail(`has ${name} of ${features} features where the transformer takes ${width}`);
    }
    hash.update(JSON.stringify([name, shape]));
    const rows = (shape[0] as number) / count;
    for (let i = 0; i < count; i++) {
      const values =
        toFloats(await opened.read(name, [i * rows, (i + 1) * rows])) ?? fail(`has ${name} of type ${dtype}`);
      if (!values.every(Number.isFinite)) return fail(`has NaN or infinity in ${name}`);
      hash.update(asBytes(values));
    }
    return { count, length, features };
  };
  const at = async (name: string, index: number): Promise<PromptEmbeddings> => {
    const { shape } = opened.entries.get(name) as { shape: readonly number[] };
    const tensor = await opened.read(name, shape.length === 2 ? undefined : [index, index + 1]);
    const [length, features] = shape.slice(-2) as [number, number];
    return { length, features, data: toFloats(tensor) as Float32Array };
  };
  try {
    const { count, length } = await items(PROMPTS);
    const guided = branchesAt(guidance).length > 1;
    if (guided) await items(NEGATIVE);
    return {
      kind: 'embeddings',
      count,
      length,
      hash: hash.digest('hex'),
      prepare: async () => {},
      cond: (index) => at(PROMPTS, index),
      uncond: () => at(guided ? NEGATIVE : PROMPTS, 0),
      close: () => opened.close(),
    };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

function toFloats({ dtype, data }: SafeTensor): Float32Array | undefined {
  switch (dtype) {
    case 'F32':
      return data as Float32Array;
    case 'F16':
      return halfToFloat32(data as Uint16Array);
    case 'BF16':
      return bfloat16ToFloat32(data as Uint16Array);
    default:
      return undefined;
  }
}
