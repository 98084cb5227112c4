import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { exists, writeFolderAtomic } from '../../../src/util/files.js';
import { writeFolderResumable } from '../../../src/util/resumable.js';
import { temporarySibling } from '../../../src/util/temporary.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

describe('writeFolderAtomic and writeFolderResumable', () => {
  it.each([
    ['atomic', writeFolderAtomic],
    ['resumable', writeFolderResumable],
  ] as const)('remove what killed processes left of the same target: %s', async (_, write) => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'out');
    await mkdir(temporarySibling(target));
    await writeFile(temporarySibling(path.join(folder, 'other')), '');
    await write(target, async () => {});
    expect(await readdir(folder)).toEqual([expect.stringMatching(/^\.other\./), 'out']);
  });

  it.each([
    ['atomic', writeFolderAtomic],
    ['resumable', writeFolderResumable],
  ] as const)('refuse a target that is being written, and leave it alone: %s', async (_, write) => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'out');
    await write(target, async (filling) => {
      await writeFile(path.join(filling, 'file'), 'first');
      await expectRejection(
        write(target, async () => {}),
        'LOCKED',
      );
    });
    expect(await readdir(folder)).toEqual(['out']);
    expect(await readFile(path.join(target, 'file'), 'utf8')).toBe('first');
  });
});

describe('writeFolderResumable', () => {
  /** Fails after it kept something. */
  async function interrupted(target: string): Promise<void> {
    const failed = writeFolderResumable(target, async (filling, kept) => {
      await writeFile(path.join(filling, 'half'), 'x');
      await writeFile(path.join(kept, 'step'), 'x');
      throw new Error('interrupted');
    });
    await expect(failed).rejects.toThrow('interrupted');
  }

  it('gives the next call what the last one kept', async () => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'a', 'out');
    await interrupted(target);
    expect(await readdir(path.dirname(target))).toEqual(['out.partial']);
    await writeFolderResumable(target, async (filling, kept) => {
      expect([await readdir(filling), await readdir(kept)]).toEqual([['half'], ['step']]);
    });
    expect(await readdir(path.dirname(target))).toEqual(['out']);
    expect(await readdir(target)).toEqual(['half']);
  });

  it('leaves nothing behind where nothing was kept, the folders above it included', async () => {
    const folder = await temporaryFolder();
    const failed = writeFolderResumable(path.join(folder, 'a', 'out'), async (filling) => {
      await writeFile(path.join(filling, 'half'), 'x');
      throw new Error('failed');
    });
    await expect(failed).rejects.toThrow('failed');
    expect(await readdir(folder)).toEqual([]);
  });

  it('removes what is kept only when the output has its name', async () => {
    const target = path.join(await temporaryFolder(), 'out');
    const seen: boolean[] = [];
    await writeFolderResumable(
      target,
      async (_, kept) => writeFile(path.join(kept, 'step'), 'x'),
      async () => void seen.push(await exists(target), await exists(path.join(`${target}.partial`, 'journal', 'step'))),
    );
    expect(seen).toEqual([true, true]);
    expect(await exists(`${target}.partial`)).toBe(false);
  });

  it('removes what a process left that was killed right after that, and only then', async () => {
    const target = path.join(await temporaryFolder(), 'out');
    await interrupted(target);
    await mkdir(target);
    await expectRejection(
      writeFolderResumable(target, async () => {}),
      'OUTPUT_EXISTS',
    );
    expect(await readdir(`${target}.partial`)).toEqual(['journal', 'output']);
    await rm(path.join(`${target}.partial`, 'output'), { recursive: true });
    await expectRejection(
      writeFolderResumable(target, async () => {}),
      'OUTPUT_EXISTS',
    );
    expect(await exists(`${target}.partial`)).toBe(false);
  });

  it("refuses a partial folder of somebody else's", async () => {
    const target = path.join(await temporaryFolder(), 'out');
    await mkdir(`${target}.partial`);
    await writeFile(path.join(`${target}.partial`, 'mine'), '');
    await expectRejection(
      writeFolderResumable(target, async () => {}),
      'OUTPUT_EXISTS',
    );
    expect(await readdir(`${target}.partial`)).toEqual(['mine']);
  });
});
