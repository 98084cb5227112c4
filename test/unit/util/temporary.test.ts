import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { removeTemporarySiblings, temporarySibling } from '../../../src/util/temporary.js';
import { temporaryFolder } from '../helpers/temporary.js';

describe('removeTemporarySiblings', () => {
  it('removes files and folders that were named for the target, and nothing else', async () => {
    const folder = await temporaryFolder();
    const target = path.join(folder, 'out');
    const others = [
      'out',
      '.out.lock',
      '.out.tmp',
      '.out.x-00000000.tmp',
      '.out.1-00000000.tmp.x',
      '.other.1-00000000.tmp',
    ];
    for (const name of others) await writeFile(path.join(folder, name), '');
    await writeFile(temporarySibling(target), '');
    await mkdir(path.join(temporarySibling(target), 'deep'), { recursive: true });
    await writeFile(temporarySibling(path.join(folder, 'out.b')), '');
    await removeTemporarySiblings(target);
    const left = (await readdir(folder)).filter((name) => !others.includes(name));
    expect(left).toEqual([expect.stringMatching(/^\.out\.b\./)]);
    expect(await readdir(folder)).toEqual(expect.arrayContaining(others));
  });

  it('has nothing to do in a folder that is not there', async () => {
    await expect(removeTemporarySiblings(path.join(await temporaryFolder(), 'a', 'out'))).resolves.toBeUndefined();
  });
});
