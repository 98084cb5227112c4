import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { exists } from '../../../src/util/files.js';
import { ownIdentity } from '../../../src/util/process-identity.js';
import { Scratch } from '../../../src/util/scratch.js';

async function scratch(): Promise<Scratch> {
  const made = await Scratch.open();
  onTestFinished(() => made.close());
  return made;
}

describe('Scratch', () => {
  it('gives back what was put, bit for bit', async () => {
    const made = await scratch();
    const values = Float32Array.of(1, -0, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** -149);
    await made.put('a', values);
    await made.put('b', Float32Array.of(5));
    expect(await made.get('a')).toEqual(values);
    expect(await made.get('b')).toEqual(Float32Array.of(5));
  });

  it('keeps the part of a larger array that was put, and an empty one', async () => {
    const made = await scratch();
    await made.put('part', Float32Array.of(0, 1, 2, 3).subarray(1, 3));
    await made.put('empty', new Float32Array(0));
    expect(await made.get('part')).toEqual(Float32Array.of(1, 2));
    expect(await made.get('empty')).toEqual(new Float32Array(0));
  });

  it('gives the last of what was put under a key, a shorter array too', async () => {
    const made = await scratch();
    await made.put('a', Float32Array.of(1, 2, 3));
    await made.put('a', Float32Array.of(4));
    expect(await made.get('a')).toEqual(Float32Array.of(4));
  });

  it('gives arrays that do not change what is kept', async () => {
    const made = await scratch();
    const values = Float32Array.of(1);
    await made.put('a', values);
    values[0] = 2;
    (await made.get('a'))[0] = 3;
    expect(await made.get('a')).toEqual(Float32Array.of(1));
  });

  it('has nothing under a key that was never put', async () => {
    await expect((await scratch()).get('absent')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it.skipIf(process.platform === 'win32')('has a folder that is for its owner alone', async () => {
    expect((await stat((await scratch()).folder)).mode & 0o077).toBe(0);
  });

  it('has a folder of its own among the temporary files', async () => {
    const [one, other] = [await scratch(), await scratch()];
    expect(one.folder).not.toBe(other.folder);
    expect(path.dirname(one.folder)).toBe(path.resolve(tmpdir()));
    expect(path.basename(one.folder)).toMatch(/^wanq-/);
    await one.put('a', Float32Array.of(1));
    expect(await readdir(other.folder)).toEqual(['.owner']);
  });

  it('removes folders of processes that are gone, and no others', async () => {
    const child = spawn(process.execPath, ['-e', '']);
    await new Promise((resolve) => child.once('exit', resolve));
    const folders: string[] = [];
    for (const owner of [{ pid: child.pid }, { pid: child.pid, host: 'another' }, {}]) {
      const folder = await mkdtemp(path.join(tmpdir(), 'wanq-'));
      onTestFinished(() => rm(folder, { recursive: true, force: true }));
      await writeFile(path.join(folder, '.owner'), JSON.stringify({ ...ownIdentity(), ...owner }));
      folders.push(folder);
    }
    const unowned = await mkdtemp(path.join(tmpdir(), 'wanq-'));
    onTestFinished(() => rm(unowned, { recursive: true, force: true }));
    await scratch();
    const there = await Promise.all([...folders, unowned].map((folder) => exists(folder)));
    expect(there).toEqual([false, true, true, true]);
  });

  it('goes on elsewhere when it is moved', async () => {
    const made = await scratch();
    await made.put('a', Float32Array.of(1));
    const before = made.folder;
    await made.moveTo(`${before}-moved`);
    expect(await made.get('a')).toEqual(Float32Array.of(1));
    expect(await exists(before)).toBe(false);
  });

  it('removes its folder and all in it when it is closed, and may be closed again', async () => {
    const made = await scratch();
    await made.put('a', Float32Array.of(1));
    await writeFile(path.join(made.folder, 'stranger'), '');
    await made.close();
    await expect(stat(made.folder)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(made.close()).resolves.toBeUndefined();
  });
});
