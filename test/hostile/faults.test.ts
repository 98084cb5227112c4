import { mkdtempSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeAtomic } from '../../src/util/files.js';
import { makeJobs } from './faults/jobs.js';
import { World } from './faults/layer.mjs';
import { FaultLoop, type Job, type Series, titleOf } from './faults/loop.js';

const outside = process.env.TMPDIR;
const root = mkdtempSync(path.join(tmpdir(), 'wanq-faults-'));
const loop = new FaultLoop(root);
const at = (name: string): string => path.join(loop.place, name);
let jobs: Map<string, Job>;

beforeAll(async () => {
  jobs = await makeJobs(path.join(root, 'inputs'), loop.place);
}, 60_000);

afterAll(async () => {
  if (outside === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = outside;
  await rm(root, { recursive: true, force: true });
});

describe('the layer', () => {
  it('counts what is done inside it, and nothing else', async () => {
    const world = new World({ kind: 'EIO' });
    await writeFile(at('outside'), 'text');
    await world.run(() => writeFile(at('inside'), 'text'));
    expect([world.total, world.count]).toEqual([3, 3]);
    expect(await readFile(at('inside'), 'utf8')).toBe('text');
  });

  it('fails the one operation that it is told, as the system would', async () => {
    const world = new World({ kind: 'ENOSPC', at: 2 });
    const failed = world.run(() => writeFile(at('full'), 'text'));
    await expect(failed).rejects.toMatchObject({ code: 'ENOSPC', syscall: 'write', errno: -28 });
    expect(world.hit).toMatchObject({ op: 'write' });
  });

  it('writes half of what a disk that fills up is given', async () => {
    const world = new World({ kind: 'short', at: 1 });
    await expect(world.run(() => writeFile(at('half'), '12345678'))).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(readFileSync(at('half'), 'utf8')).toBe('1234');
  });

  it('stops what runs in it for good', async () => {
    const world = new World({ kind: 'crash', at: 1 });
    let ended = false;
    void world
      .run(() => writeFile(at('never'), 'text'))
      .finally(() => {
        ended = true;
      });
    await world.stopped;
    await world.bury();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ended).toBe(false);
  });
});

describe('the loop finds what is wrong with', () => {
  const text = 'x'.repeat(4096);
  const beside = (sync: boolean) => async (): Promise<void> => {
    const handle = await open(at('.out.tmp'), 'w');
    await handle.writeFile(text);
    if (sync) await handle.sync();
    await handle.close();
    await rename(at('.out.tmp'), at('out'));
  };
  const job = (does: () => Promise<void>): Job => ({ name: 'naive', does, outputs: ['out'] });

  it.each<[string, () => Promise<void>, Series, RegExp]>([
    ['a file written in place, after a crash', () => writeFile(at('out'), text), { kind: 'crash' }, /out is torn/],
    ['a file written in place, on a full disk', () => writeFile(at('out'), text), { kind: 'short' }, /out is torn/],
    ['a rename without fsync, after a loss of power', beside(false), { kind: 'power' }, /out is torn/],
    ['a rename whose folder is not synced', beside(true), { kind: 'power' }, /after a loss of power/],
    ['a temporary file that is not removed', beside(true), { kind: 'EIO' }, /left \.out\.tmp/],
    ['an error that nobody made readable', beside(true), { kind: 'EIO' }, /INTERNAL/],
    [
      'a failure that is swallowed',
      () => beside(true)().catch(() => rm(at('.out.tmp'), { force: true })),
      { kind: 'ENOSPC' },
      /ended well without its outputs/,
    ],
    [
      'a file that stays open',
      async () => {
        const handle = await open(at('out'), 'w');
        await handle.writeFile(text);
        await handle.close();
      },
      { kind: 'short' },
      /files are open still/,
    ],
  ])('%s', async (_, does, series, says) => {
    const problems: string[] = [];
    // What a loss of power takes is drawn by lot.
    for (let seed = 1; seed <= (series.kind === 'power' ? 8 : 1); seed++) {
      problems.push(...(await loop.run(job(does), { ...series, seed })).problems);
    }
    expect(problems).toContainEqual(expect.stringMatching(says));
  });

  const flush = async (folder: string): Promise<void> => {
    const handle = await open(folder, 'r');
    await handle.sync();
    await handle.close();
  };

  /** What is torn or lost in a few losses of power. */
  async function lost(does: () => Promise<void>, output = 'out'): Promise<string[]> {
    const found = [];
    for (let seed = 1; seed <= 5; seed++) {
      const { problems } = await loop.run({ ...job(does), outputs: [output] }, { kind: 'power', seed });
      found.push(...problems.filter((problem) => problem.includes('torn') || problem.includes('loss of power')));
    }
    return found;
  }

  it('nothing: a file written beside, synced, renamed, and its folder synced', async () => {
    expect(
      await lost(async () => {
        await beside(true)();
        await flush(loop.place);
      }),
    ).toEqual([]);
  });

  it('a new folder above an output, where only the output is synced', async () => {
    const output = path.join('new', 'folder', 'out');
    const naive = async (): Promise<void> => {
      await mkdir(path.dirname(at(output)), { recursive: true });
      await writeFile(at(output), text);
      for (const name of [output, path.dirname(output)]) await flush(at(name));
    };
    expect(await lost(naive, output)).toContainEqual(expect.stringMatching(/after a loss of power/));
    expect(await lost(() => writeAtomic(at(output), text), output)).toEqual([]);
  });
});

/** A handful of operations of each; `npm run fault-loop` meets all. */
describe('with a fault at some file operation, outputs are absent, old or complete, and a rerun succeeds:', () => {
  const few: readonly [job: string, series: Series, every: number][] = [
    ['gate outputs', { kind: 'ENOSPC' }, 5],
    ['gate outputs', { kind: 'crash' }, 3],
    ['gate outputs', { kind: 'power', seed: 3 }, 3],
    ['evaluations', { kind: 'EIO' }, 5],
    ['plan file', { kind: 'short' }, 1],
    ['compare', { kind: 'EMFILE' }, 5],
    ['import', { kind: 'crash' }, 15],
    ['quantize', { kind: 'ENOSPC', lasting: true }, 97],
    ['quantize', { kind: 'crash' }, 97],
    ['merge', { kind: 'power', seed: 3 }, 180],
  ];

  it.each(few.map(([name, series, every]) => [name, titleOf(series), series, every] as const))(
    '%s, %s',
    async (name, _, series, every) => {
      const { problems, tried, reruns, succeeded } = await loop.run(jobs.get(name) as Job, series, { every });
      expect(problems).toEqual([]);
      expect(tried).toBeGreaterThan(0);
      expect([reruns, succeeded]).toEqual([reruns, reruns]);
    },
  );
});
