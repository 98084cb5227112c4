import { mkdtempSync, readFileSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { ROOT } from '../helpers/fixtures.js';
import { CASES, ROWS } from './cases/index.js';
import type { Command, Control, HostileCase, Input } from './lib/case.js';
import { judge, type Outcome } from './lib/judge.js';
import { Place } from './lib/place.js';
import { CaseRunner, nameOf } from './lib/runner.js';

const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'wanq-hostile-')));
const home = process.cwd();
afterEach(() => process.chdir(home));
afterAll(() => new Place(root).remove());

/** Runs `wanq` in this process. */
async function inProcess({ args, env = {} }: Command): Promise<Outcome> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const said = { stdout: '', stderr: '' };
  stdout.on('data', (text) => {
    said.stdout += text;
  });
  stderr.on('data', (text) => {
    said.stderr += text;
  });
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== null)) as Record<string, string>;
  const io = { stdout, stderr, env: given, cwd: () => process.cwd(), on: () => undefined, off: () => undefined };
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

const chosen = CASES.flatMap((row) => {
  const command = cheap(row);
  return command ? [{ row, command, name: `${row.id} ${row.what}` }] : [];
});

const numberOf = ({ id }: { id: string }): string => id.replace(/[a-z]+$/, '');

describe.each([...new Set(chosen.map(({ row }) => numberOf(row)))])('case %s', (number) => {
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

describe('in a process of its own', () => {
  const runner = new CaseRunner(root);
  const ids = ['1i', '2', '5e', '6j', '7a', '7b', '22c', '27b', '31f', '34a'];
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

  it('has every number of the list that concerns a command line', () => {
    const numbers = new Set(ROWS.map((row) => Number(numberOf(row))));
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 35 }, (_, i) => i + 1));
  });
});
