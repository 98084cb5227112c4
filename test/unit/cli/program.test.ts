import { PassThrough } from 'node:stream';
import { expect, it, vi } from 'vitest';
import type { Io } from '../../../src/cli/context.js';
import { main } from '../../../src/cli/main.js';
import { temporaryFolder } from '../helpers/temporary.js';

const { imported, marked } = vi.hoisted(() => {
  const names: string[] = [];
  const mark = (name: string) => (original: () => Promise<object>) => {
    names.push(name);
    return original();
  };
  return { imported: names, marked: mark };
});
vi.mock('cli-table3', marked('cli-table3'));
vi.mock('h264-mp4-encoder', marked('h264-mp4-encoder'));
vi.mock('ora', marked('ora'));
vi.mock('protobufjs', marked('protobufjs'));
vi.mock('sharp', marked('sharp'));
vi.mock('zod', marked('zod'));

it('imports the libraries of the work for a command that runs, not for help or a mistake in flags', async () => {
  const cwd = await temporaryFolder();
  const io: Io = {
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    env: {},
    cwd: () => cwd,
    on: () => undefined,
    off: () => undefined,
  };
  for (const command of ['import', 'inspect', 'calibrate', 'merge', 'quantize', 'check', 'eval', 'gate', 'generate']) {
    expect(await main([command, '--help'], io)).toBe(0);
    expect(await main([command, '--nonsense'], io)).toBe(2);
  }
  expect(await main(['--help'], io)).toBe(0);
  expect(await main(['--version'], io)).toBe(0);
  expect(imported).toEqual([]);

  expect(await main(['inspect', 'absent'], io)).toBe(5);
  expect(imported).toEqual(expect.arrayContaining(['cli-table3', 'protobufjs', 'zod']));
  expect(imported).not.toContain('sharp');
});
