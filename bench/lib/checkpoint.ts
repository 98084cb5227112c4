import { mkdir, open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { MODEL_CLASS, readConfig } from '../../src/import/config.js';
import { buildTransformer } from '../../src/import/model/transformer.js';
import { asBytes, Tensor } from '../../src/ir/tensor.js';
import { deriveSeed, randn } from '../../src/numerics/rng.js';
import { writeFully } from '../../src/util/files.js';

/** Published shapes of Wan text-to-video transformers, as far as they differ from diffusers' defaults. */
export const CHECKPOINTS = {
  '1.3B': { num_attention_heads: 12, ffn_dim: 8960, num_layers: 30 },
  '5B': { num_attention_heads: 24, ffn_dim: 14336, num_layers: 30, in_channels: 48, out_channels: 48 },
  '14B': {},
} as const;

export type CheckpointShape = keyof typeof CHECKPOINTS;

/** What diffusers cuts a checkpoint into, bytes. */
const SHARD_BYTES = 10e9;

const POOL = 1 << 22;

export interface MadeCheckpoint {
  readonly folder: string;
  readonly transformer: string;
  readonly shards: readonly string[];
  readonly bytes: number;
}

/**
 * Writes a diffusers checkpoint of a published shape in FP32, cut into shards with an index.
 * @param dense whether weights are pseudo-random; else the files have their full length and hold nothing
 */
export async function makeCheckpoint(shape: CheckpointShape, folder: string, dense: boolean): Promise<MadeCheckpoint> {
  const transformer = path.join(folder, 'transformer');
  await mkdir(transformer, { recursive: true });
  const configFile = path.join(transformer, 'config.json');
  await writeFile(configFile, JSON.stringify({ _class_name: MODEL_CLASS, ...CHECKPOINTS[shape] }, null, 2));
  await writeFile(path.join(folder, 'model_index.json'), JSON.stringify({ _class_name: 'WanPipeline' }));

  const parts: { name: string; dims: readonly number[]; bytes: number }[][] = [[]];
  let size = 0;
  buildTransformer(await readConfig(configFile), 'batch', {
    take(name, dims) {
      const bytes = 4 * dims.reduce((a, b) => a * b, 1);
      if (size + bytes > SHARD_BYTES) {
        parts.push([]);
        size = 0;
      }
      size += bytes;
      parts.at(-1)?.push({ name, dims, bytes });
      return new Tensor(name, 'float32', dims, { kind: 'external', location: '', offset: 0, length: bytes });
    },
  });

  const pool = asBytes(randn(0, POOL).map((x) => 0.02 * x));
  const numbered = (i: number): string => String(i).padStart(5, '0');
  const map: Record<string, string> = {};
  const shards: string[] = [];
  let total = 0;
  for (const [i, part] of parts.entries()) {
    const shard = `diffusion_pytorch_model-${numbered(i + 1)}-of-${numbered(parts.length)}.safetensors`;
    let end = 0;
    const header: Record<string, object> = {};
    for (const { name, dims, bytes } of part) {
      header[name] = { dtype: 'F32', shape: dims, data_offsets: [end, end + bytes] };
      end += bytes;
      map[name] = shard;
    }
    const json = JSON.stringify(header);
    const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const handle = await open(path.join(transformer, shard), 'wx');
    try {
      await writeFully(handle, Buffer.concat([length, text]), 0);
      const start = 8 + text.length;
      if (dense) {
        for (let at = 0; at < end; ) {
          const from = 4 * (deriveSeed(i, at) % (POOL / 2));
          const piece = pool.subarray(from, from + Math.min(2 * POOL, end - at));
          await writeFully(handle, piece, start + at);
          at += piece.byteLength;
        }
      } else await handle.truncate(start + end);
      await handle.sync();
    } finally {
      await handle.close();
    }
    shards.push(shard);
    total += end;
  }
  const index = { metadata: { total_size: total }, weight_map: map };
  await writeFile(path.join(transformer, 'diffusion_pytorch_model.safetensors.index.json'), JSON.stringify(index));
  return { folder, transformer, shards, bytes: total };
}
