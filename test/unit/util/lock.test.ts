import { spawn } from 'node:child_process';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { lockPath, withLock } from '../../../src/util/lock.js';
import { ownIdentity, type ProcessIdentity } from '../../../src/util/process-identity.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

async function target(): Promise<string> {
  return path.join(await temporaryFolder(), 'out');
}

/** A process that has ended. */
async function gone(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => child.once('exit', resolve));
  return child.pid as number;
}

/** Leaves the lock of another process, and tries to take it. */
async function takeFrom(holder: Partial<ProcessIdentity> | string): Promise<string> {
  const output = await target();
  const text = typeof holder === 'string' ? holder : JSON.stringify({ ...ownIdentity(), ...holder });
  await writeFile(lockPath(output), text);
  return withLock(output, async () => readFile(lockPath(output), 'utf8'));
}

describe('withLock', () => {
  it('holds the lock while it works, and leaves nothing', async () => {
    const output = await target();
    const seen = await withLock(output, async () => {
      expect(JSON.parse(await readFile(lockPath(output), 'utf8'))).toEqual(ownIdentity());
      return readdir(path.dirname(output));
    });
    expect(seen).toEqual(['.out.lock']);
    expect(await readdir(path.dirname(output))).toEqual([]);
  });

  it('is released where the work fails', async () => {
    const output = await target();
    await expect(withLock(output, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(await readdir(path.dirname(output))).toEqual([]);
    expect(await withLock(output, async () => 1)).toBe(1);
  });

  it('refuses a second holder in the same process, and says who the first is', async () => {
    const output = await target();
    await withLock(output, async () => {
      const error = await expectRejection(
        withLock(output, async () => {}),
        'LOCKED',
      );
      expect(error.message).toContain(`process ${process.pid}`);
      expect(error.hint).toContain('.out.lock');
    });
  });

  it('gives one of many that ask at once the lock', async () => {
    const output = await target();
    let holders = 0;
    const asked = Array.from({ length: 20 }, () =>
      withLock(output, async () => {
        expect(++holders).toBe(1);
        await new Promise((resolve) => setTimeout(resolve, 5));
        holders--;
      }).then(
        () => 'held',
        (error) => error.code,
      ),
    );
    const outcomes = await Promise.all(asked);
    expect(outcomes).toContain('held');
    expect(new Set(outcomes)).toEqual(new Set(['held', 'LOCKED']));
  });

  it('takes over the lock of a process that is gone', async () => {
    expect(JSON.parse(await takeFrom({ pid: await gone() }))).toEqual(ownIdentity());
  });

  it.runIf(process.platform === 'linux')(
    'takes over the lock of a process whose number another one has now',
    async () => {
      await expect(takeFrom({ started: 'another boot/1' })).resolves.toBeDefined();
    },
  );

  it('leaves alone the lock of another machine and of another container', async () => {
    const pid = await gone();
    await expectRejection(takeFrom({ pid, host: 'another' }), 'LOCKED');
    await expectRejection(takeFrom({ pid, space: 'pid:[1]' }), 'LOCKED');
  });

  it.each(['', '{', '{"pid":"x"}', 'x'.repeat(10_000)])(
    'waits with a lock that says nothing until it is old: %.20s',
    async (text) => {
      await expectRejection(takeFrom(text), 'LOCKED');
      const output = await target();
      await writeFile(lockPath(output), text);
      const old = new Date(Date.now() - 3_600_000);
      await utimes(lockPath(output), old, old);
      expect(await withLock(output, async () => 1)).toBe(1);
      expect(await readdir(path.dirname(output))).toEqual([]);
    },
  );

  it('does not remove a lock that is another process’s by now', async () => {
    const output = await target();
    await withLock(output, () => writeFile(lockPath(output), 'another'));
    expect(await readFile(lockPath(output), 'utf8')).toBe('another');
  });
});
