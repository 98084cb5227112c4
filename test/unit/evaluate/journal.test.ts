import { appendFile, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Journal, withJournal } from '../../../src/evaluate/journal.js';
import { exists } from '../../../src/util/files.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

/** Does a step of the name in a journal of its own, as a new process would. @returns its value and whether it was done */
async function step<T>(folder: string, name: string, make: (journal: Journal) => Promise<T>) {
  const journal = await Journal.open(folder);
  let done = false;
  const value = await journal.once(name, () => {
    done = true;
    return make(journal);
  });
  return { value, done, resumed: journal.resumed };
}

describe('Journal', () => {
  it('takes a finished step over, bit for bit', async () => {
    const folder = await temporaryFolder();
    const value = {
      ...{ nan: Number.NaN, infinite: [Infinity, -Infinity], zero: -0, small: 5e-324, third: 1 / 3, none: null },
      nested: { $number: 'text', a: undefined },
    };
    expect(await step(folder, 'a', async () => value)).toEqual({ value, done: true, resumed: 0 });
    const again = await step(folder, 'a', async () => ({}) as typeof value);
    expect(again).toEqual({ value, done: false, resumed: 1 });
    expect(Object.is(again.value.zero, -0)).toBe(true);
    expect((await step(folder, 'b', async () => 1)).done).toBe(true);
  });

  it('takes a step of no value over', async () => {
    const folder = await temporaryFolder();
    await step(folder, 'a', async () => {});
    expect(await step(folder, 'a', async () => {})).toMatchObject({ done: false });
  });

  it('does a step that failed again', async () => {
    const folder = await temporaryFolder();
    await expect(step(folder, 'a', () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(await step(folder, 'a', async () => 1)).toMatchObject({ done: true });
  });

  const put = (values: number[]) => async (journal: Journal) => journal.scratch.put('x', Float32Array.from(values));

  it('keeps the arrays of a step, those of steps within it too', async () => {
    const folder = await temporaryFolder();
    await step(folder, 'outer', (journal) => journal.once('inner', () => put([1, 2])(journal)));
    const journal = await Journal.open(folder);
    await journal.once('outer', () => Promise.reject(new Error('done again')));
    expect(await journal.scratch.get('x')).toEqual(Float32Array.of(1, 2));
  });

  const damages: readonly (readonly [string, (file: string) => Promise<void>])[] = [
    ['is gone', (file) => rm(file)],
    ['is cut short', (file) => truncate(file, 3)],
    ['is empty', (file) => truncate(file, 0)],
    ['is longer', (file) => appendFile(file, 'x')],
    [
      'has another byte',
      async (file) =>
        writeFile(
          file,
          (await readFile(file)).map((byte, i) => (i === 2 ? byte ^ 1 : byte)),
        ),
    ],
  ];

  it.each(damages)('does a step again whose array %s, and steps around it', async (_, damage) => {
    const folder = await temporaryFolder();
    await step(folder, 'outer', (journal) => journal.once('inner', () => put([1, 2])(journal)));
    await damage(path.join(folder, 'x.f32'));
    const again = await step(folder, 'outer', (journal) => journal.once('inner', () => put([3])(journal)));
    expect(again.done).toBe(true);
    expect(await (await Journal.open(folder)).scratch.get('x')).toEqual(Float32Array.of(3));
  });

  it.each(damages)('does a step again whose entry %s', async (_, damage) => {
    const folder = await temporaryFolder();
    await step(folder, 'a', async () => 1);
    const [entry] = (await readdir(folder)).filter((name) => name.endsWith('.step'));
    await damage(path.join(folder, entry as string));
    expect(await step(folder, 'a', async () => 2)).toMatchObject({ value: 2, done: true });
    expect(await step(folder, 'a', async () => 3)).toMatchObject({ value: 2, done: false });
  });

  it('does not ask for arrays that a step removed itself', async () => {
    const folder = await temporaryFolder();
    await step(folder, 'a', async (journal) => {
      await put([1])(journal);
      await journal.scratch.remove('x');
    });
    expect(await step(folder, 'a', async () => {})).toMatchObject({ done: false });
  });

  it('refuses other settings and names what differs', async () => {
    const folder = await temporaryFolder();
    await (await Journal.open(folder)).begin({ seed: 1, steps: undefined, prompts: ['a'] });
    await (await Journal.open(folder)).begin({ seed: 1, prompts: ['a'], steps: undefined });
    const other = Journal.open(folder).then((journal) => journal.begin({ seed: 2, prompts: ['a', 'b'] }));
    expect((await expectRejection(other, 'CACHE_INVALID')).message).toContain('it differs in seed, prompts)');
  });

  it.each(['', '{}', '{"schema":2,"settings":{}}', '['])('refuses settings that are none: %s', async (text) => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'settings.json'), text);
    const error = await expectRejection(
      Journal.open(folder).then((journal) => journal.begin({})),
      'CACHE_INVALID',
    );
    expect(error.hint).toContain('remove the folder');
  });
});

describe('withJournal', () => {
  it('keeps what was finished where the work fails, and nothing where nothing was', async () => {
    for (const steps of [0, 1]) {
      const folder = path.join(await temporaryFolder(), 'journal');
      const failed = withJournal(folder, async (journal) => {
        await journal.begin({});
        if (steps > 0) await journal.once('a', async () => 1);
        throw new Error('failed');
      });
      await expect(failed).rejects.toThrow('failed');
      expect(await exists(folder)).toBe(steps > 0);
    }
  });
});
