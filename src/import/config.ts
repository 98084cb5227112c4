import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { readJson } from '../util/json.js';

export const MODEL_CLASS = 'WanTransformer3DModel';

/** The only normalization of queries and keys that diffusers builds for Wan. */
const QK_NORM = 'rms_norm_across_heads';

/** What a transformer is made of: diffusers' configuration, checked and with its defaults filled in. */
export interface WanConfig {
  /** Latents of a token: frames, height, width. */
  readonly patch: readonly [number, number, number];
  readonly heads: number;
  readonly headDim: number;
  /** Features of a token: heads times head size. */
  readonly width: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly textDim: number;
  /** Features of the timestep's sinusoid. */
  readonly freqDim: number;
  readonly ffnDim: number;
  readonly layers: number;
  /** Whether the input of cross attention is normalized. */
  readonly crossAttnNorm: boolean;
  readonly eps: number;
  /** Features of an image embedding; null for a model that takes none. */
  readonly imageDim: number | null;
  /** Positions of the learned embedding added to the image tokens; null where there is none. */
  readonly imagePositions: number | null;
  /** Longest side of the token grid. */
  readonly maxPositions: number;
}

/** A configuration is untrusted, and the graph grows with it. Beside each bound: the largest published Wan model. */
const size = (most: number): z.ZodNumber => z.int().positive().max(most);

const schema = z.looseObject({
  _class_name: z.string().optional(),
  patch_size: z.array(size(16)).length(3).default([1, 2, 2]),
  num_attention_heads: size(512).default(40), // 40
  attention_head_dim: size(1024).default(128), // 128
  in_channels: size(4096).default(16), // 48
  out_channels: z.int().nonnegative().max(4096).nullable().default(16), // 48
  text_dim: size(65536).default(4096), // 4096
  freq_dim: size(8192).default(256), // 256
  ffn_dim: size(2 ** 20).default(13824), // 14336
  num_layers: size(512).default(40), // 40
  cross_attn_norm: z.boolean().default(true),
  qk_norm: z.string().nullable().default(QK_NORM),
  eps: z.number().positive().max(1).default(1e-6),
  image_dim: size(65536).nullable().default(null), // 1280
  added_kv_proj_dim: size(2 ** 20)
    .nullable()
    .default(null), // 5120
  rope_max_seq_len: size(16384).default(1024), // 1024
  pos_embed_seq_len: size(65536).nullable().default(null), // 514
  /** Of early releases; no model ever used it. */
  window_size: z.array(z.int()).length(2).default([-1, -1]),
});

const classSchema = z.looseObject({ _class_name: z.string().optional() });

type RawConfig = z.infer<typeof schema>;

/**
 * Reads the `config.json` of a diffusers WanTransformer3DModel.
 * @throws WanqError MODEL_INVALID for a field of the wrong type or size; MODEL_UNSUPPORTED for another class, or a value or field that would
 * change the model in a way this version does not know; NOT_FOUND, NOT_READABLE
 */
export async function readConfig(file: string): Promise<WanConfig> {
  // Fields of another class would be named by what is wrong with them, and not by the class.
  const { _class_name: name = MODEL_CLASS } = await readJson(file, classSchema, 'MODEL_INVALID');
  if (name !== MODEL_CLASS) throw refused(file, `the model is a ${printable(name, 60)}`);
  return toWanConfig(await readJson(file, schema, 'MODEL_INVALID'), file);
}

function toWanConfig(raw: RawConfig, file: string): WanConfig {
  const reason = unsupported(raw);
  if (reason !== undefined) throw refused(file, reason);
  const width = raw.num_attention_heads * raw.attention_head_dim;
  return {
    patch: raw.patch_size as [number, number, number],
    heads: raw.num_attention_heads,
    headDim: raw.attention_head_dim,
    width,
    inChannels: raw.in_channels,
    outChannels: raw.out_channels || raw.in_channels,
    textDim: raw.text_dim,
    freqDim: raw.freq_dim,
    ffnDim: raw.ffn_dim,
    layers: raw.num_layers,
    crossAttnNorm: raw.cross_attn_norm,
    eps: raw.eps,
    imageDim: raw.image_dim,
    imagePositions: raw.pos_embed_seq_len,
    maxPositions: raw.rope_max_seq_len,
  };
}

function refused(file: string, reason: string): WanqError {
  return new WanqError('MODEL_UNSUPPORTED', `${printable(file)}: ${reason}`, {
    hint: `this version builds diffusers' ${MODEL_CLASS}, text- or image-to-video`,
  });
}

function unsupported(raw: RawConfig): string | undefined {
  const { qk_norm, attention_head_dim, freq_dim, image_dim, added_kv_proj_dim } = raw;
  const unknown = Object.keys(raw).find((key) => !known(key) && raw[key] !== null && raw[key] !== false);
  if (unknown !== undefined) return `it has the field "${printable(unknown, 60)}", which is not known here`;
  if (qk_norm !== QK_NORM) {
    return `qk_norm is ${qk_norm === null ? 'null' : `"${printable(qk_norm, 60)}"`}, and only "${QK_NORM}" is known`;
  }
  if (raw.window_size.some((side) => side !== -1)) return 'window_size asks for local attention';
  // The rotary embedding needs whole pairs of features, and some for each of the three axes.
  if (attention_head_dim % 2 !== 0 || attention_head_dim < 6) return `attention_head_dim is ${attention_head_dim}`;
  if (freq_dim % 2 !== 0) return `freq_dim is ${freq_dim}, an odd number`;
  if ((image_dim === null) !== (added_kv_proj_dim === null)) {
    return 'of image_dim and added_kv_proj_dim one is given and the other is not';
  }
  const width = raw.num_attention_heads * attention_head_dim;
  if (added_kv_proj_dim !== null && added_kv_proj_dim !== width) {
    return `added_kv_proj_dim is ${added_kv_proj_dim}, where images are embedded in ${width} features`;
  }
  if (raw.pos_embed_seq_len !== null && image_dim === null) return 'it has pos_embed_seq_len and no image_dim';
  return undefined;
}

/** diffusers keeps notes of its own under names that begin with an underscore. */
function known(key: string): boolean {
  return key.startsWith('_') || Object.hasOwn(schema.shape, key);
}
