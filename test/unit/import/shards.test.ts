import { existsSync, statSync } from 'node:fs';
import { mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Shard } from '../../../src/import/checkpoint.js';
import { copyShards, linkShards } from '../../../src/import/shards.js';
import { readBounded } from '../../../src/util/files.js';
import { temporaryFolder } from '../helpers/temporary.js';

let from: string;
let shards: Shard[];
let target: string;

async function shardOf(file: string): Promise<Shard> {
  const { dev, ino, size } = await stat(file, { bigint: true });
  return { name: path.basename(file), path: file, bytes: Number(size), identity: `${dev}:${ino}` };
}

const contentOf = (i: number): Uint8Array => new Uint8Array(9_000_000 + i).map((_, at) => (at * 7 + i) % 251);

/** Makes two shards, in a test: the folders are gone after it. */
async function prepare(): Promise<void> {
  shards = [];
  from = await temporaryFolder();
  target = await temporaryFolder();
  for (const i of [0, 1]) {
    const file = path.join(from, `${i}.safetensors`);
    await writeFile(file, contentOf(i));
    shards.push(await shardOf(file));
  }
}

describe('linkShards', () => {
  it('gives the same files another name', async () => {
    await prepare();
    await linkShards(shards, target);
    for (const { name, path: file } of shards) expect(statSync(path.join(target, name)).ino).toBe(statSync(file).ino);
  });

  it('refuses a file that took the place of the one that was read', async () => {
    await prepare();
    const [first] = shards as [Shard];
    // A new file first: the old one's inode is not free for it then.
    await writeFile(path.join(from, 'new'), contentOf(0));
    await rename(path.join(from, 'new'), first.path);
    await expect(linkShards(shards, target)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining('was replaced'),
    });
  });

  // Linux has a second file system in memory.
  const memory = '/dev/shm';
  const hasAnother = existsSync(memory) && statSync(memory).dev !== statSync(tmpdir()).dev;
  it.skipIf(!hasAnother)('names --copy where the output is on another file system', async () => {
    await prepare();
    const elsewhere = await mkdtemp(path.join(memory, 'wanq-unit-'));
    try {
      await expect(linkShards(shards, elsewhere)).rejects.toMatchObject({
        code: 'NOT_WRITABLE',
        message: expect.stringContaining('another file system'),
        hint: expect.stringContaining('--copy'),
      });
    } finally {
      await rm(elsewhere, { recursive: true });
    }
  });
});

describe('copyShards', () => {
  it('copies all bytes, and says how far it is', async () => {
    await prepare();
    const seen: number[] = [];
    await copyShards(shards, target, (done, total) => {
      expect(total).toBe(18_000_001);
      seen.push(done);
    });
    for (const [i, { name, path: file }] of shards.entries()) {
      const copy = path.join(target, name);
      expect(Buffer.compare(await readBounded(copy, 1e8), contentOf(i))).toBe(0);
      expect(statSync(copy).ino).not.toBe(statSync(file).ino);
    }
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(18_000_001);
  });

  it('refuses a file of another size than was read', async () => {
    await prepare();
    const [first] = shards as [Shard];
    await expect(copyShards([{ ...first, bytes: first.bytes - 1 }], target)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
    });
  });

  it('stops when it is told to', async () => {
    await prepare();
    const controller = new AbortController();
    const stopped = copyShards(shards, target, () => controller.abort(new Error('stop')), controller.signal);
    await expect(stopped).rejects.toThrow('stop');
  });

  it('needs room for what it copies', async () => {
    await prepare();
    const [first] = shards as [Shard];
    await expect(copyShards([{ ...first, bytes: 2 ** 60 }], target)).rejects.toMatchObject({ code: 'NO_SPACE' });
  });
});
