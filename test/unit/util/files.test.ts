import { execFileSync } from 'node:child_process';
import {
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  copyTree,
  exists,
  openRegular,
  openSeen,
  readBounded,
  readFully,
  readText,
  refuseExisting,
  refuseInside,
  treeSize,
  writeAtomic,
  writeFolderAtomic,
  writeFully,
} from '../../../src/util/files.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

function* failingAfter(chunk: Uint8Array): Generator<Uint8Array> {
  yield chunk;
  throw new Error('the source failed');
}

describe('writeAtomic', () => {
  it('writes text and chunks, making folders on the way', async () => {
    const folder = await temporaryFolder();
    const file = path.join(folder, 'a', 'b', 'file');
    await writeAtomic(file, 'été');
    expect(await readFile(file, 'utf8')).toBe('été');
    await writeAtomic(file, [Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3)]);
    expect([...(await readFile(file))]).toEqual([1, 2, 3]);
    expect(await readdir(path.dirname(file))).toEqual(['file']);
  });

  it('leaves an old file as it was where writing fails, and nothing beside it', async () => {
    const folder = await temporaryFolder();
    const file = path.join(folder, 'file');
    await writeFile(file, 'old');
    await expect(writeAtomic(file, failingAfter(Uint8Array.of(1)))).rejects.toThrow('the source failed');
    expect(await readFile(file, 'utf8')).toBe('old');
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('leaves no folder behind that it made for a file it could not write', async () => {
    const folder = await temporaryFolder();
    await mkdir(path.join(folder, 'kept'));
    const file = path.join(folder, 'kept', 'a', 'b', 'file');
    await expect(writeAtomic(file, failingAfter(Uint8Array.of(1)))).rejects.toThrow('the source failed');
    expect(await readdir(folder)).toEqual(['kept']);
    expect(await readdir(path.join(folder, 'kept'))).toEqual([]);
  });

  it('does not replace a folder', async () => {
    const folder = await temporaryFolder();
    await mkdir(path.join(folder, 'taken'));
    await expectRejection(writeAtomic(path.join(folder, 'taken'), 'x'), 'NOT_READABLE');
    expect(await readdir(folder)).toEqual(['taken']);
  });

  it('refuses a path through a file', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'file'), '');
    await expectRejection(writeAtomic(path.join(folder, 'file', 'a', 'b'), 'x'), 'NOT_FOUND');
  });

  it('refuses a file as the parent', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'file'), '');
    await expectRejection(writeAtomic(path.join(folder, 'file', 'a'), 'x'), 'NOT_FOUND');
  });
});

describe('writeFolderAtomic', () => {
  it('shows the folder only when it is complete', async () => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'out');
    const result = await writeFolderAtomic(target, async (filling) => {
      await writeFile(path.join(filling, 'file'), 'x');
      expect(await exists(target)).toBe(false);
      return 42;
    });
    expect(result).toBe(42);
    expect(await readdir(folder)).toEqual(['out']);
    expect(await readdir(target)).toEqual(['file']);
  });

  it('leaves nothing behind where filling fails, the folders above it included', async () => {
    const folder = await temporaryFolder();
    const filled = writeFolderAtomic(path.join(folder, 'a', 'out'), async (filling) => {
      await mkdir(path.join(filling, 'deep'));
      await writeFile(path.join(filling, 'deep', 'file'), 'x');
      throw new Error('filling failed');
    });
    await expect(filled).rejects.toThrow('filling failed');
    expect(await readdir(folder)).toEqual([]);
  });

  it.each(['folder', 'file', 'dangling link'])('refuses an existing %s and does not begin', async (kind) => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'out');
    if (kind === 'folder') await mkdir(target);
    else if (kind === 'file') await writeFile(target, 'mine');
    else await symlink('nowhere', target);
    let begun = false;
    const written = writeFolderAtomic(target, async () => {
      begun = true;
    });
    await expectRejection(written, 'OUTPUT_EXISTS');
    expect(begun).toBe(false);
    expect(await readdir(folder)).toEqual(['out']);
  });

  it('leaves alone what appeared at its target while it was filling', async () => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'out');
    const written = writeFolderAtomic(target, async (filling) => {
      await writeFile(path.join(filling, 'file'), 'ours');
      await mkdir(target);
    });
    await expectRejection(written, 'OUTPUT_EXISTS');
    expect(await readdir(folder)).toEqual(['out']);
    expect(await readdir(target)).toEqual([]);
  });
});

describe('refuseExisting', () => {
  it('refuses an empty path', async () => {
    await expectRejection(refuseExisting(' '), 'USAGE');
  });
});

describe('refuseInside', () => {
  it('refuses the folder, what lies in it and what a link leads into it', async () => {
    const folder = await temporaryFolder();
    const root = path.join(folder, 'pipeline');
    await mkdir(path.join(root, 'part'), { recursive: true });
    await symlink(root, path.join(folder, 'alias'));
    for (const target of [
      root,
      path.join(root, 'out'),
      path.join(root, 'part', 'a', 'b'),
      path.join(folder, 'alias', 'x'),
    ]) {
      await expectRejection(refuseInside(target, root), 'USAGE');
    }
  });

  it('lets a sibling pass whose name begins alike', async () => {
    const folder = await temporaryFolder();
    const root = path.join(folder, 'pipeline');
    await mkdir(root);
    await mkdir(`${root}-int8`);
    await expect(refuseInside(`${root}-int8`, root)).resolves.toBeUndefined();
    await expect(refuseInside(path.join(`${root}-int8`, 'a'), root)).resolves.toBeUndefined();
  });
});

describe('readBounded', () => {
  it('reads a file of at most so many bytes', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    await writeFile(file, '12345');
    expect(Buffer.from(await readBounded(file, 5)).toString()).toBe('12345');
    await expectRejection(readBounded(file, 4), 'NOT_READABLE');
  });

  it('refuses what is not there, a folder and a FIFO, without waiting', async () => {
    const folder = await temporaryFolder();
    execFileSync('mkfifo', [path.join(folder, 'fifo')]);
    await expectRejection(readBounded(path.join(folder, 'absent'), 10), 'NOT_FOUND');
    await expectRejection(readBounded(folder, 10), 'NOT_READABLE');
    await expectRejection(readBounded(path.join(folder, 'fifo'), 10), 'NOT_READABLE');
  });

  it('reads text without its byte order mark', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    await writeFile(file, '\ufeffété');
    expect(await readText(file, 100)).toBe('été');
  });
});

describe('readText', () => {
  it('refuses what is not UTF-8', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    await writeFile(file, Uint8Array.of(0xff, 0xfe, 0x41, 0));
    await expectRejection(readText(file, 100), 'NOT_READABLE');
  });
});

describe('openRegular', () => {
  it.skipIf(process.getuid?.() === 0)('says that a file may not be read', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    await writeFile(file, 'x');
    await chmod(file, 0);
    await expectRejection(openRegular(file), 'NOT_READABLE');
  });

  it('refuses a device, a loop of links and a NUL', async () => {
    const folder = await temporaryFolder();
    await symlink('loop', path.join(folder, 'loop'));
    await expectRejection(openRegular('/dev/null'), 'NOT_READABLE');
    await expectRejection(openRegular(path.join(folder, 'loop')), 'NOT_FOUND');
    await expectRejection(openRegular(path.join(folder, 'a\0b')), 'NOT_FOUND');
    await expectRejection(openRegular(path.join(folder, 'x'.repeat(300))), 'NOT_FOUND');
  });
});

describe('openSeen', () => {
  async function seen(): Promise<{ folder: string; file: string; open(): ReturnType<typeof openSeen> }> {
    const folder = await temporaryFolder();
    const file = path.join(folder, 'file');
    await writeFile(file, '12345');
    await writeFile(path.join(folder, 'other'), 'other');
    const info = await lstat(file, { bigint: true });
    return { folder, file, open: () => openSeen(file, info) };
  }

  it('opens the file that was looked at', async () => {
    const { open } = await seen();
    const { handle, size } = await open();
    await handle.close();
    expect(size).toBe(5);
  });

  it('refuses another file that took its place', async () => {
    const { folder, file, open } = await seen();
    await rename(path.join(folder, 'other'), file);
    await expectRejection(open(), 'NOT_READABLE');
  });

  it('refuses a link that took its place, even to the same file', async () => {
    const { folder, file, open } = await seen();
    await rename(file, path.join(folder, 'moved'));
    await symlink('moved', file);
    await expectRejection(open(), 'NOT_FOUND');
  });

  it('refuses a pipe that took its place, without waiting', async () => {
    const { file, open, folder } = await seen();
    await rename(file, path.join(folder, 'moved'));
    execFileSync('mkfifo', [file]);
    await expectRejection(open(), 'NOT_READABLE');
  });
});

describe('readFully and writeFully', () => {
  it('work at any offset', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    const handle = await open(file, 'w+');
    try {
      await writeFully(handle, Uint8Array.of(1, 2, 3, 4), 2);
      expect([...(await readFully(handle, 0, 6))]).toEqual([0, 0, 1, 2, 3, 4]);
      expect([...(await readFully(handle, 3, 2))]).toEqual([2, 3]);
      await truncate(file, 4);
      await expectRejection(readFully(handle, 0, 6), 'NOT_READABLE');
    } finally {
      await handle.close();
    }
  });
});

describe('copyTree and treeSize', () => {
  const tree = async (): Promise<{ folder: string; from: string }> => {
    const folder = await temporaryFolder();
    const from = path.join(folder, 'from');
    await mkdir(path.join(from, 'deep'), { recursive: true });
    await writeFile(path.join(from, 'deep', 'a'), '12345');
    await writeFile(path.join(folder, 'elsewhere'), '123');
    await symlink('../elsewhere', path.join(from, 'link'));
    return { folder, from };
  };

  it('copy and count what links lead to', async () => {
    const { folder, from } = await tree();
    await copyTree(from, path.join(folder, 'to'), false);
    expect(await readFile(path.join(folder, 'to', 'deep', 'a'), 'utf8')).toBe('12345');
    expect(await readFile(path.join(folder, 'to', 'link'), 'utf8')).toBe('123');
    await expect(readlink(path.join(folder, 'to', 'link'))).rejects.toMatchObject({ code: 'EINVAL' });
    expect(await treeSize(from)).toBe(8);
    expect(await treeSize(path.join(from, 'link'))).toBe(3);
  });

  it('make one absolute link where a link is asked for', async () => {
    const { folder, from } = await tree();
    await copyTree(path.relative(process.cwd(), from), path.join(folder, 'to'), true);
    expect(await readlink(path.join(folder, 'to'))).toBe(from);
  });
});
