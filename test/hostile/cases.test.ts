import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { ROOT } from '../helpers/fixtures.js';
import { capturedIo } from '../helpers/io.js';
import { CASES, ROWS } from './cases/index.js';
import type { Command, Control, HostileCase, Input } from './lib/case.js';
import { judge, type Outcome } from './lib/judge.js';
import { Place, SECRET } from './lib/place.js';
import { run } from './lib/run.js';
import { CaseRunner, nameOf } from './lib/runner.js';

const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'wanq-hostile-')));
const home = process.cwd();
afterEach(() => process.chdir(home));
afterAll(() => new Place(root).remove());

/** Runs `wanq` in this process. */
async function inProcess({ args, env = {} }: Command): Promise<Outcome> {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== null)) as Record<string, string>;
  const { io, said } = capturedIo(process.cwd, given);
  const code = await main(args, io);
  return { code, ...said };
}

let places = 0;

/** What is wrong with how a command ends on an input. */
async function faultsOf(input: Input, command: Command, expected: HostileCase['expected']): Promise<readonly string[]> {
  const place = new Place(path.join(root, String(places++)));
  try {
    await input(place);
    const before = place.snapshot();
    process.chdir(place.path());
    const outcome = await inProcess(command);
    return judge(command, expected, outcome, place, before).faults;
  } finally {
    process.chdir(home);
    place.remove();
  }
}

/** Commands that run no model where they are refused, as they must be, or that never run one. */
const CHEAP = new Set(['inspect', 'quantize --dry-run', 'check', 'gate', 'merge', 'import']);

/** The first command of a case that this process can run. */
function cheap(row: HostileCase): Command | undefined {
  if (row.slow || row.impossible?.() !== undefined) return undefined;
  return row.commands.find((command) => {
    const refused = !(command.expected ?? row.expected).includes('ok');
    return !command.sh && !command.during && (CHEAP.has(nameOf(command)) || refused);
  });
}

const numberOf = ({ id }: { id: string }): string => id.replace(/[a-z]+$/, '');

const runnable = CASES.flatMap((row) => {
  const command = cheap(row);
  return command ? [{ row, command, name: `${row.id} ${row.what}` }] : [];
});

/** Of each number so many, from its first to its last; the table has all. */
const MOST = 12;

const numbers = [...new Set(runnable.map(({ row }) => numberOf(row)))];
const chosen = numbers.flatMap((number) => {
  const all = runnable.filter(({ row }) => numberOf(row) === number);
  const picked = Array.from({ length: MOST }, (_, i) => all[Math.round((i * (all.length - 1)) / (MOST - 1))]);
  return [...new Set(picked)] as typeof all;
});

describe.each(numbers)('case %s', (number) => {
  it.each(chosen.filter(({ row }) => numberOf(row) === number))('$name', async ({ row, command }) => {
    expect(await faultsOf(row.input, command, command.expected ?? row.expected)).toEqual([]);
  });
});

/** Controls by their input and command, each once; those that run models are the business of the table. */
const controls = new Map(
  chosen
    .map(({ row, command }): [Control, Command] => [row.control, command.control ?? command])
    .filter(([, command]) => CHEAP.has(nameOf(command)))
    .map(([control, command]) => [`${nameOf(command)}: ${control.name}`, { control, command }]),
);

describe('controls', () => {
  it.each([...controls])('%s', async (_, { control, command }) => {
    expect(await faultsOf(control.input, command, ['ok'])).toEqual([]);
  });
});

describe('the judge tells of', () => {
  const place = new Place(path.join(root, 'judged'));
  const before = place.snapshot();
  const refused = { code: 3, stdout: '', stderr: 'wanq: m.onnx is empty [MODEL_INVALID]\n' };
  const faultsIn = (outcome: Partial<Outcome>): readonly string[] =>
    judge({ args: [] }, ['MODEL_INVALID'], { ...refused, ...outcome }, place, before).faults;

  it('nothing where all is as it must be', () => {
    expect(faultsIn({})).toEqual([]);
  });

  it.each<[string, Partial<Outcome>, string]>([
    ['another end', { stderr: 'wanq: m.onnx is a folder [NOT_READABLE]\n', code: 5 }, 'ended with NOT_READABLE'],
    ['success', { code: 0, stderr: '' }, 'ended with ok'],
    ['a signal', { code: null, signal: 'SIGSEGV' }, 'ended with SIGSEGV'],
    ['a code that is not that of its name', { code: 4 }, 'exit code 4 of MODEL_INVALID'],
    ['two errors', { stderr: `wanq: a [USAGE]\n${refused.stderr}` }, '2 lines of errors'],
    ['results of a failure', { stdout: 'out: 4 of 27\n' }, 'prints results'],
    ['a stack trace', { stderr: `${refused.stderr}    at main (/wanq/dist/cli/main.js:20:5)\n` }, 'a stack trace'],
    ['an unexpected error', { stderr: 'wanq: unexpected error: x [INTERNAL]\n' }, 'calls itself broken'],
    ['an escape sequence', { stdout: '\u001b[31mred' }, 'prints U+001b'],
    ['a letter that turns the text', { stderr: `\u202e${refused.stderr}` }, 'prints U+202e'],
    ['a command of a CI job', { stderr: `::set-output name=a::b\n${refused.stderr}` }, 'a workflow command'],
    ['a command of the older kind', { stderr: `##[error]x\n${refused.stderr}` }, 'a workflow command'],
    ['a secret', { stderr: `${SECRET} ${refused.stderr}` }, 'prints a secret'],
  ])('%s', (_, outcome, fault) => {
    expect(faultsIn(outcome).join()).toContain(fault);
  });

  it('what a failure changed, left or took away, and not of the output of a success', () => {
    place.write('out', 'x');
    expect(faultsIn({})).toEqual(['work/out is new']);
    const done = { code: 0, stdout: '', stderr: '' };
    expect(judge({ args: [], outputs: ['out'] }, ['ok'], done, place, before).faults).toEqual([]);
    writeFileSync(place.outside('secret'), 'changed');
    expect(judge({ args: [], outputs: ['out'] }, ['ok'], done, place, before).faults).toEqual([
      'outside/secret was changed',
    ]);
    rmSync(place.outside('secret'));
    expect(judge({ args: [], outputs: ['out'] }, ['ok'], done, place, before).faults).toEqual([
      'outside/secret is gone',
    ]);
  });

  // Elsewhere nothing is measured.
  it.skipIf(process.platform !== 'linux')('memory of all processes of a command', async () => {
    const script = path.join(root, 'large.mjs');
    writeFileSync(
      script,
      `import { spawnSync } from 'node:child_process';
      const fill = 'const a = Buffer.alloc(2e8, 1); setTimeout(() => a, 500)';
      if (process.argv[2] === 'twice') spawnSync(process.execPath, ['-e', fill]);
      else { const a = Buffer.alloc(2e8, 1); setTimeout(() => a, 300); }`,
    );
    const [once, twice] = await Promise.all(
      ['once', 'twice'].map((arg) => run({ args: [arg] }, new Place(path.join(root, arg)), script)),
    );
    expect(once?.peakBytes).toBeGreaterThan(2e8);
    expect((twice?.peakBytes ?? 0) - 2e8).toBeGreaterThan(3e7);
    expect(once).toMatchObject({ code: 0, tooLong: false, left: [] });
  });
});

describe('in a process of its own', () => {
  const runner = new CaseRunner(root);
  const ids = ['2', '5e', '6j', '7a', '7b', '22c', '27b', '34a'];
  it.each(ids)(
    'case %s ends as it must',
    async (id) => {
      const row = ROWS.find((found) => found.id === id);
      if (!row) throw new Error(`there is no case ${id}`);
      const one = 'commands' in row ? { ...row, commands: row.commands.slice(0, 1) } : row;
      expect(await runner.look(one)).toMatchObject({ ok: true, faults: [] });
    },
    120_000,
  );
});

describe('docs/reliability.md', () => {
  const rows = (): Map<string, string> => {
    const text = readFileSync(path.join(ROOT, 'docs', 'reliability.md'), 'utf8');
    const found = [...text.matchAll(/^\| (\d+[a-z]*) \| .*\| ([^|]+) \|$/gm)] as unknown as [string, string, string][];
    return new Map(found.map(([, id, ok]) => [id, ok]));
  };

  it('has a row for each case', () => {
    expect([...rows().keys()].sort()).toEqual(ROWS.map(({ id }) => id).sort());
  });

  it('shows none that went wrong', () => {
    expect([...rows()].filter(([, ok]) => ok === 'NO')).toEqual([]);
  });

  it('names tests and commands that there are', () => {
    const { scripts } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
    for (const row of ROWS) {
      if (!('shownBy' in row)) continue;
      for (const [file] of row.shownBy.matchAll(/\b(test|docs)\/[\w./-]*\w/g)) {
        expect(existsSync(path.join(ROOT, file)), file).toBe(true);
      }
      for (const [, name] of row.shownBy.matchAll(/npm run ([\w-]+)/g)) expect(scripts).toHaveProperty(name as string);
    }
  });

  it('has every number of the list that concerns a command line', () => {
    const shown = new Set(ROWS.map((row) => Number(numberOf(row))));
    expect([...shown].sort((a, b) => a - b)).toEqual(Array.from({ length: 35 }, (_, i) => i + 1));
  });
});
