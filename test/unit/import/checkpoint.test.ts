import { copyFile, cp, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/import/checkpoint.js';
import { readSafetensors } from '../../../src/util/safetensors.js';
import { temporaryFolder } from '../helpers/temporary.js';
import { TINY, tinyCheckpoint, writeTensors } from './support.js';

const SINGLE = 'diffusion_pytorch_model.safetensors';
const INDEX = `${SINGLE}.index.json`;
const shardName = (i: number): string => `diffusion_pytorch_model-0000${i}-of-00002.safetensors`;

/** A tiny checkpoint in two shards. @param change edits the index's map */
async function sharded(change: (map: Record<string, string>) => void = () => {}): Promise<string> {
  const folder = await temporaryFolder();
  const transformer = await tinyCheckpoint(folder);
  const all = [...(await readSafetensors(path.join(transformer, SINGLE))).tensors];
  const map: Record<string, string> = {};
  for (const i of [1, 2]) {
    const part = all.filter((_, at) => at % 2 === i - 1);
    await writeTensors(path.join(transformer, shardName(i)), new Map(part));
    for (const [name] of part) map[name] = shardName(i);
  }
  await rm(path.join(transformer, SINGLE));
  change(map);
  await writeFile(path.join(transformer, INDEX), JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }));
  return folder;
}

describe('openCheckpoint', () => {
  it('takes the whole folder or the transformer itself', async () => {
    const folder = await temporaryFolder();
    const transformer = await tinyCheckpoint(folder);
    const whole = await openCheckpoint(folder);
    const alone = await openCheckpoint(transformer);
    expect(whole).toMatchObject({ whole: true, config: { layers: 2 } });
    expect(alone).toMatchObject({ whole: false, transformer: whole.transformer });
    expect(alone.tensors).toEqual(whole.tensors);
  });

  it('knows where every tensor lies', async () => {
    const folder = await temporaryFolder();
    const transformer = await tinyCheckpoint(folder);
    const { tensors, shards } = await openCheckpoint(folder);
    expect(shards).toMatchObject([{ name: SINGLE }]);
    const places = [...tensors.values()].sort((a, b) => a.offset - b.offset);
    expect((places.at(-1)?.offset ?? 0) + (places.at(-1)?.length ?? 0)).toBe(shards[0]?.bytes);
    expect(tensors.get('blocks.0.attn1.to_q.weight')).toMatchObject({ dtype: 'F32', dims: [16, 16], length: 1024 });
    expect((await readSafetensors(path.join(transformer, SINGLE))).tensors.size).toBe(tensors.size);
  });

  it('follows the links of a download cache', async () => {
    const folder = await temporaryFolder();
    const transformer = await tinyCheckpoint(folder);
    await mkdir(path.join(folder, 'blobs'));
    await rename(path.join(transformer, SINGLE), path.join(folder, 'blobs', 'a1b2'));
    await symlink('../blobs/a1b2', path.join(transformer, SINGLE));
    const { shards } = await openCheckpoint(folder);
    expect(shards).toMatchObject([{ name: SINGLE, path: expect.stringMatching(/blobs.a1b2$/) }]);
  });

  it('sees the second transformer of a checkpoint that has two', async () => {
    const folder = await temporaryFolder();
    await cp(await tinyCheckpoint(folder), path.join(folder, 'transformer_2'), { recursive: true });
    await mkdir(path.join(folder, 'transformer_3'));
    expect((await openCheckpoint(folder)).others).toEqual(['transformer_2']);
  });

  it('joins the shards of an index', async () => {
    const { tensors, shards } = await openCheckpoint(await sharded());
    expect(shards.map(({ name }) => name)).toEqual([shardName(1), shardName(2)]);
    expect(new Set([...tensors.values()].map(({ file }) => file)).size).toBe(2);
  });

  it('takes the default of several sets of weights', async () => {
    const folder = await temporaryFolder();
    const transformer = await tinyCheckpoint(folder);
    await copyFile(path.join(transformer, SINGLE), path.join(transformer, 'diffusion_pytorch_model.fp16.safetensors'));
    expect((await openCheckpoint(folder)).shards).toMatchObject([{ name: SINGLE }]);
    await rename(path.join(transformer, SINGLE), path.join(transformer, 'other.safetensors'));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' });
  });
});

describe('refuses', () => {
  it('what is no checkpoint', async () => {
    const folder = await temporaryFolder();
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'NOT_A_PIPELINE' });
    await expect(openCheckpoint(path.join(folder, 'absent'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await writeFile(path.join(folder, 'file'), '');
    await expect(openCheckpoint(path.join(folder, 'file'))).rejects.toMatchObject({ code: 'NOT_A_PIPELINE' });
  });

  it.each([['diffusion_pytorch_model.bin'], ['model.pth']])('pickled weights in %s', async (name) => {
    const folder = await temporaryFolder();
    await rename(path.join(await tinyCheckpoint(folder), SINGLE), path.join(folder, 'transformer', name));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      message: expect.stringContaining(`only ${name}`),
      hint: expect.stringContaining('safe_serialization'),
    });
  });

  it.each([
    '../outside.safetensors',
    '..',
    '/etc/passwd',
    'sub/shard.safetensors',
    'sub\\shard.safetensors',
    'C:shard.safetensors',
    '.hidden.safetensors',
    'shard.safetensors\u0000',
    'shard\n.safetensors',
    'config.json',
    '',
  ])('an index that names %j', async (name) => {
    const folder = await sharded((map) => {
      map.scale_shift_table = name;
    });
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringMatching(/no plain file name$/),
    });
  });

  it('an index of files that are not there', async () => {
    const folder = await sharded();
    await rm(path.join(folder, 'transformer', shardName(2)));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining(`names ${shardName(2)}, which is not there`),
    });
  });

  it.each<[string, (map: Record<string, string>) => void, string]>([
    [
      'misplaces a tensor',
      (map) => {
        map.scale_shift_table = map.scale_shift_table === shardName(1) ? shardName(2) : shardName(1);
      },
      'does not know scale_shift_table',
    ],
    ['leaves a tensor out', (map) => delete map.scale_shift_table, 'does not know scale_shift_table'],
    ['invents a tensor', (map) => Object.assign(map, { invented: shardName(1) }), 'the index has invented'],
  ])('an index that %s', async (_, change, says) => {
    await expect(openCheckpoint(await sharded(change))).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining(says),
    });
  });

  it.each(['[]', '{}', '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{'])(
    'the index %s',
    async (text) => {
      const folder = await sharded();
      await writeFile(path.join(folder, 'transformer', INDEX), text);
      await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    },
  );

  it('two shards with the same tensor', async () => {
    const folder = await sharded();
    const transformer = path.join(folder, 'transformer');
    await copyFile(path.join(transformer, shardName(1)), path.join(transformer, shardName(2)));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });

  it('a truncated shard', async () => {
    const folder = await temporaryFolder();
    await truncate(path.join(await tinyCheckpoint(folder), SINGLE), 5000);
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'SAFETENSORS_INVALID' });
  });

  it('a pointer that Git left in place of a shard', async () => {
    const folder = await temporaryFolder();
    const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9999\n';
    await writeFile(path.join(await tinyCheckpoint(folder), SINGLE), pointer);
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'SAFETENSORS_INVALID',
      hint: expect.stringContaining('git lfs pull'),
    });
  });

  it.each<[string, object]>([
    ['a tensor beyond the end', { a: { dtype: 'F32', shape: [4], data_offsets: [0, 16] } }],
    ['a shape that its bytes do not hold', { a: { dtype: 'F32', shape: [9], data_offsets: [0, 8] } }],
    ['a negative offset', { a: { dtype: 'F32', shape: [2], data_offsets: [-8, 0] } }],
    ['an overflowing shape', { a: { dtype: 'F32', shape: [2 ** 31, 2 ** 31], data_offsets: [0, 8] } }],
    ['a hole', { a: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } }],
    ['a type of eight bits', { a: { dtype: 'F8_E4M3', shape: [8], data_offsets: [0, 8] } }],
  ])('a header with %s', async (_, header) => {
    const folder = await temporaryFolder();
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const file = path.join(await tinyCheckpoint(folder), SINGLE);
    await writeFile(file, Buffer.concat([length, text, Buffer.alloc(8)]));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'SAFETENSORS_INVALID' });
  });

  it('a configuration of another class before it looks at weights', async () => {
    const folder = await temporaryFolder();
    const raw = { ...TINY, _class_name: 'UNet2DConditionModel' };
    await writeFile(path.join(await tinyCheckpoint(folder), 'config.json'), JSON.stringify(raw));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' });
  });
});
