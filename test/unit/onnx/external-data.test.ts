import { execFileSync } from 'node:child_process';
import { link, mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Tensor } from '../../../src/ir/tensor.js';
import { MAX_LOCATION_LENGTH, MAX_SHARED_RANGE } from '../../../src/limits.js';
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

  it('through a second name of a file: hard links are plain files', async () => {
    const { inside, outside, read } = await modelFolder();
    await writeFile(path.join(outside, 'shard'), Uint8Array.of(5, 6, 7, 8));
    await link(path.join(outside, 'shard'), path.join(inside, 'linked'));
    expect([...(await read('linked'))]).toEqual([5, 6, 7, 8]);
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
    ['a root with a backslash', '\\secret'],
    ['a stream of a file', 'data:stream'],
    ['a name that ends with a dot', 'data.'],
    ['a name that ends with a space', 'data '],
    ['a device of Windows', 'weights/NUL.bin'],
    ['bytes that are no UTF-8', 'dat\ufffd'],
    ['a backslash within the folder', 'weights\\data'],
    ['a longer name than any', `${'x/'.repeat(MAX_LOCATION_LENGTH / 2)}x`],
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

describe('ExternalData and a Hugging Face cache', () => {
  /** A checkout of a repository with `model.onnx` and `model.onnx_data`, links both; `elsewhere` is another repository. */
  async function cache(): Promise<{ root: string; snapshot: string; size(location: string): Promise<number> }> {
    const hub = await temporaryFolder();
    const root = path.join(hub, 'models--someone--wan');
    const snapshot = path.join(root, 'snapshots', 'abc123', 'transformer');
    await mkdir(path.join(root, 'blobs'), { recursive: true });
    await mkdir(snapshot, { recursive: true });
    await mkdir(path.join(hub, 'models--other--wan', 'blobs'), { recursive: true });
    await writeFile(path.join(hub, 'models--other--wan', 'blobs', 'private'), 'secret');
    await writeFile(path.join(root, 'blobs', 'graph'), 'graph');
    await writeFile(path.join(root, 'blobs', 'weights'), '12345678');
    await writeFile(path.join(root, 'refs'), 'secret');
    await symlink('../../../blobs/graph', path.join(snapshot, 'model.onnx'));
    await symlink('../../../blobs/weights', path.join(snapshot, 'model.onnx_data'));
    const external = new ExternalData(path.join(snapshot, 'model.onnx'));
    onTestFinished(() => external.close());
    return { root, snapshot, size: (location) => external.size(location) };
  }

  it('follow links into the blobs of the same repository', async () => {
    const { size } = await cache();
    expect(await size('model.onnx_data')).toBe(8);
  });

  it.each([
    ['another repository', '../../../../models--other--wan/blobs/private'],
    ['a file beside the blobs', '../../../refs'],
    ['a folder below the blobs', '../../../blobs/deep/weights'],
  ])('do not follow a link into %s', async (_, target) => {
    const { root, snapshot, size } = await cache();
    await mkdir(path.join(root, 'blobs', 'deep'));
    await writeFile(path.join(root, 'blobs', 'deep', 'weights'), 'secret');
    await symlink(target, path.join(snapshot, 'other'));
    await expectRejection(size('other'), 'EXTERNAL_DATA_INVALID');
  });

  it('do not follow it for a model that is no link itself', async () => {
    const { snapshot } = await cache();
    await writeFile(path.join(snapshot, 'own.onnx'), 'graph');
    const external = new ExternalData(path.join(snapshot, 'own.onnx'));
    onTestFinished(() => external.close());
    await expectRejection(external.size('model.onnx_data'), 'EXTERNAL_DATA_INVALID');
  });

  it('do not follow it for a link outside the layout', async () => {
    const { root } = await cache();
    const folder = path.join(path.dirname(root), 'plain');
    await mkdir(folder);
    await symlink(path.join(root, 'blobs', 'graph'), path.join(folder, 'model.onnx'));
    await symlink(path.join(root, 'blobs', 'weights'), path.join(folder, 'model.onnx_data'));
    const external = new ExternalData(path.join(folder, 'model.onnx'));
    onTestFinished(() => external.close());
    await expectRejection(external.size('model.onnx_data'), 'EXTERNAL_DATA_INVALID');
  });
});

describe('ExternalData.check', () => {
  type Place = readonly [name: string, offset: number, length: number, location?: string];
  async function check(...places: Place[]): Promise<void> {
    const { inside } = await modelFolder();
    await symlink('data', path.join(inside, 'alias'));
    await link(path.join(inside, 'data'), path.join(inside, 'twin'));
    const external = new ExternalData(path.join(inside, 'model.onnx'));
    onTestFinished(() => external.close());
    await external.check(
      places.map(
        ([name, offset, length, location = 'data']) =>
          new Tensor(name, 'uint8', [length], { kind: 'external', location, offset, length }),
      ),
    );
  }
  const shared = (count: number): Place[] => Array.from({ length: count }, (_, i) => [`t${i}`, 4, 4]);

  it.each<[string, Place[]]>([
    [
      'ranges that touch',
      [
        ['b', 8, 8],
        ['a', 0, 8],
      ],
    ],
    [
      'ranges that are one and the same, by any name of the file',
      [
        ['a', 0, 8],
        ['b', 0, 8, './data'],
        ['c', 0, 8, 'alias'],
      ],
    ],
    ['as many tensors at one place as are allowed', shared(MAX_SHARED_RANGE)],
    [
      'tensors without elements anywhere',
      [
        ['a', 0, 8],
        ['b', 4, 0],
        ['c', 16, 0],
      ],
    ],
  ])('takes %s', async (_, places) => {
    await expect(check(...places)).resolves.toBeUndefined();
  });

  it.each<[string, Place[]]>([
    [
      'ranges that share a byte',
      [
        ['a', 0, 9],
        ['b', 8, 8],
      ],
    ],
    [
      'one range inside another',
      [
        ['a', 0, 16],
        ['b', 4, 4],
      ],
    ],
    [
      'ranges of one beginning',
      [
        ['a', 0, 8],
        ['b', 0, 4],
      ],
    ],
    [
      'ranges that overlap through another spelling',
      [
        ['a', 0, 9],
        ['b', 8, 8, './data'],
      ],
    ],
    [
      'ranges that overlap through a link',
      [
        ['a', 0, 9],
        ['b', 8, 8, 'alias'],
      ],
    ],
    [
      'ranges that overlap through a hard link',
      [
        ['a', 0, 9],
        ['b', 8, 8, 'twin'],
      ],
    ],
    ['one tensor more at one place than is allowed', shared(MAX_SHARED_RANGE + 1)],
    [
      'a range past the end',
      [
        ['a', 0, 8],
        ['b', 9, 8],
      ],
    ],
    ['a missing file', [['a', 0, 8, 'absent']]],
  ])('refuses %s', async (_, places) => {
    await expectRejection(check(...places), 'EXTERNAL_DATA_INVALID');
  });
});
