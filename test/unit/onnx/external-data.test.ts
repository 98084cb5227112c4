import { execFileSync } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Tensor } from '../../../src/ir/tensor.js';
import { ExternalData } from '../../../src/onnx/external-data.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

interface Folders {
  /** Holds a `secret` beside the model's folder. */
  readonly outside: string;
  /** Holds the model and 16 bytes 0..15 in `data`. */
  readonly inside: string;
  read(location: string, offset?: number, length?: number): Promise<Uint8Array>;
}

async function modelFolder(): Promise<Folders> {
  const outside = await temporaryFolder();
  const inside = path.join(outside, 'model');
  await mkdir(inside);
  await writeFile(path.join(outside, 'secret'), 'secret secret secret');
  await writeFile(
    path.join(inside, 'data'),
    Uint8Array.from({ length: 16 }, (_, i) => i),
  );
  const external = new ExternalData(path.join(inside, 'model.onnx'));
  onTestFinished(() => external.close());
  return {
    outside,
    inside,
    read: (location, offset = 0, length = 4) =>
      external.read(new Tensor('w', 'uint8', [length], { kind: 'external', location, offset, length })),
  };
}

describe('ExternalData reads', () => {
  it.each([
    [0, 4, [0, 1, 2, 3]],
    [12, 4, [12, 13, 14, 15]],
    [16, 0, []],
  ])('from offset %i %i bytes', async (offset, length, expected) => {
    const { read } = await modelFolder();
    expect([...(await read('data', offset, length))]).toEqual(expected);
  });

  it('from a folder below the model, however it is spelt', async () => {
    const { inside, read } = await modelFolder();
    await mkdir(path.join(inside, 'weights'));
    await writeFile(path.join(inside, 'weights', 'a..b'), Uint8Array.of(9, 8, 7, 6));
    expect([...(await read('weights/a..b'))]).toEqual([9, 8, 7, 6]);
    expect([...(await read('./weights//a..b'))]).toEqual([9, 8, 7, 6]);
  });

  it('through a symbolic link that stays inside', async () => {
    const { inside, read } = await modelFolder();
    await symlink('data', path.join(inside, 'link'));
    expect([...(await read('link', 1, 2))]).toEqual([1, 2]);
  });

  it('from a model folder that is itself behind a symbolic link', async () => {
    const { outside, inside } = await modelFolder();
    await symlink(inside, path.join(outside, 'alias'));
    const external = new ExternalData(path.join(outside, 'alias', 'model.onnx'));
    onTestFinished(() => external.close());
    expect(await external.size('data')).toBe(16);
  });

  it('after it was closed, by opening the file again', async () => {
    const { inside } = await modelFolder();
    const external = new ExternalData(path.join(inside, 'model.onnx'));
    onTestFinished(() => external.close());
    expect(await external.size('data')).toBe(16);
    await external.close();
    expect(await external.size('data')).toBe(16);
  });
});

describe('ExternalData refuses', () => {
  it.each<[string, string]>([
    ['a parent folder', '../secret'],
    ['a way out and back in', '../model/data'],
    ['a way out through a folder', 'a/../../secret'],
    ['a parent folder with a backslash', '..\\secret'],
    ['a backslash path', 'a\\..\\..\\secret'],
    ['a drive letter', 'C:\\secret'],
    ['a drive letter without a folder', 'C:secret'],
    ['a network path', '\\\\host\\secret'],
    ['a NUL', 'data\0'],
    ['the model folder', '.'],
    ['nothing', ''],
    ['a missing file', 'absent'],
    ['a URL', 'file:///etc/hostname'],
  ])('%s', async (_, location) => {
    const { read } = await modelFolder();
    await expectRejection(read(location), 'EXTERNAL_DATA_INVALID');
  });

  it('names with a backslash or a drive letter, even where such files exist', async () => {
    const { inside, read } = await modelFolder();
    for (const name of ['..\\secret', 'C:secret']) {
      await writeFile(path.join(inside, name), 'secret');
      await expectRejection(read(name), 'EXTERNAL_DATA_INVALID');
    }
  });

  it('an absolute path, even into the model folder', async () => {
    const { inside, outside, read } = await modelFolder();
    await expectRejection(read(path.join(outside, 'secret')), 'EXTERNAL_DATA_INVALID');
    await expectRejection(read(path.join(inside, 'data')), 'EXTERNAL_DATA_INVALID');
  });

  it('symbolic links that lead out: to a file, to a folder, to a sibling of the same beginning', async () => {
    const { inside, outside, read } = await modelFolder();
    await symlink('../secret', path.join(inside, 'file'));
    await symlink('..', path.join(inside, 'folder'));
    await mkdir(`${inside}-other`);
    await writeFile(path.join(`${inside}-other`, 'secret'), 'secret');
    await symlink(path.join(`${inside}-other`, 'secret'), path.join(inside, 'sibling'));
    expect(`${inside}-other`.startsWith(inside) && `${inside}-other`.startsWith(outside)).toBe(true);
    for (const location of ['file', 'folder/secret', 'sibling']) {
      await expectRejection(read(location), 'EXTERNAL_DATA_INVALID');
    }
  });

  it('a folder, a FIFO and a device', async () => {
    const { inside, read } = await modelFolder();
    await mkdir(path.join(inside, 'folder'));
    execFileSync('mkfifo', [path.join(inside, 'fifo')]);
    await symlink('/dev/zero', path.join(inside, 'device'));
    for (const location of ['folder', 'fifo', 'device']) {
      await expectRejection(read(location, 0, 0), 'EXTERNAL_DATA_INVALID');
    }
  });

  it.each([
    [13, 4],
    [17, 0],
    [2 ** 40, 4],
    [0, 17],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ])('a range from %i of %i bytes in a file of 16', async (offset, length) => {
    const { read } = await modelFolder();
    await expectRejection(read('data', offset, length), 'EXTERNAL_DATA_INVALID');
  });

  it.each<[string, string]>([
    ['a path through a file', 'data/x'],
    ['a name too long for the file system', 'x'.repeat(5000)],
    ['a loop of symbolic links', 'loop'],
  ])('%s', async (_, location) => {
    const { inside, read } = await modelFolder();
    await symlink('loop', path.join(inside, 'loop'));
    await expectRejection(read(location), 'EXTERNAL_DATA_INVALID');
  });
});
