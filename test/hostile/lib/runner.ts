import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Command, Control, Elsewhere, HostileCase, Probe, Row } from './case.js';
import type { TableRow } from './document.js';
import { type Judged, judge } from './judge.js';
import { Place } from './place.js';
import { MEMORY_LIMIT, run, type Seen } from './run.js';

export interface LookedAt extends TableRow {
  readonly faults: readonly string[];
  /** Commands beside their controls, the CPU time of the slowest and what the largest took beyond its control. */
  readonly runs: number;
  readonly slowestMs: number;
  readonly overControl: number;
}

const NO_RUNS = { faults: [], runs: 0, slowestMs: 0, overControl: 0 } as const;

interface Ran {
  readonly seen: Seen;
  readonly judged: Judged;
}

/** Runs cases, each in a place of its own, and their controls, each once. */
export class CaseRunner {
  readonly #root: string;
  readonly #controls = new Map<string, Promise<Ran>>();
  #places = 0;

  constructor(root: string) {
    this.#root = root;
  }

  get controls(): number {
    return this.#controls.size;
  }

  async look(row: Row): Promise<LookedAt> {
    try {
      if ('commands' in row) return await this.#case(row);
      if ('look' in row) return await this.#probe(row);
    } catch (cause) {
      throw new Error(`${row.id} ${row.what} could not be made`, { cause });
    }
    return elsewhere(row);
  }

  async #case(row: HostileCase): Promise<LookedAt> {
    const shown = {
      id: row.id,
      what: row.what,
      commands: row.commands.map(nameOf).join(', '),
      expected: expectedOf(row),
    };
    const impossible = row.impossible?.();
    if (impossible !== undefined) return { ...shown, seen: `not run: ${impossible}`, ok: null, ...NO_RUNS };
    const faults: string[] = [];
    const ends: string[] = [];
    const total = { runs: row.commands.length, slowestMs: 0, overControl: 0 };
    for (const command of row.commands) {
      const said = (fault: string): string => `${nameOf(command)}: ${fault}`;
      const control = await this.#control(row.control, command.control ?? command);
      faults.push(...control.judged.faults.map((fault) => said(`CONTROL ${fault}`)));
      let ran = await this.#run(row.input, command, command.expected ?? row.expected);
      // Once more, since the machine may have been busy.
      if (ran.seen.tooLong) ran = await this.#run(row.input, command, command.expected ?? row.expected);
      const { seen, judged } = ran;
      ends.push(judged.end);
      faults.push(...judged.faults.map(said));
      if (seen.tooLong)
        faults.push(said(`took ${Math.round(seen.ms)} ms, ${Math.round(seen.cpuMs)} of them computing`));
      const over = seen.peakBytes - control.seen.peakBytes;
      if (over > MEMORY_LIMIT) faults.push(said(`took ${Math.round(over / 2 ** 20)} MB more than its control`));
      if (seen.left.length > 0) faults.push(said(`left processes ${seen.left.join(', ')}`));
      total.slowestMs = Math.max(total.slowestMs, seen.cpuMs);
      total.overControl = Math.max(total.overControl, over);
    }
    const one = row.varies ? 'one of these' : (ends[0] as string);
    const seen = row.varies || new Set(ends).size === 1 ? one : ends.join(', ');
    return {
      ...shown,
      seen: faults.length === 0 ? seen : `${seen}: ${withoutPaths(faults[0] as string)}`,
      ok: faults.length === 0,
      faults,
      ...total,
    };
  }

  #control({ name, input }: Control, command: Omit<Command, 'control'>): Promise<Ran> {
    const key = JSON.stringify([name, command.args, command.env, command.sh]);
    let ran = this.#controls.get(key);
    if (!ran) {
      // What is done to the hostile one while it runs is not done to the control.
      const { during: _, expected: _expected, ...plain } = command;
      ran = this.#run(input, plain, ['ok']);
      this.#controls.set(key, ran);
    }
    return ran;
  }

  async #run(
    input: Control['input'],
    command: Omit<Command, 'control'>,
    expected: HostileCase['expected'],
  ): Promise<Ran> {
    const place = this.#place();
    try {
      await input(place);
      const before = place.snapshot();
      const seen = await run(command, place);
      return { seen, judged: judge(command, expected, seen, place, before) };
    } finally {
      place.remove();
    }
  }

  async #probe({ id, what, expected, look }: Probe): Promise<LookedAt> {
    const place = this.#place();
    const seen = await look(place).catch((error: unknown) => `failed: ${String(error)}`);
    place.remove();
    const ok = seen === expected;
    return { id, what, commands: 'in one process', expected, seen, ok, ...NO_RUNS, faults: ok ? [] : [seen] };
  }

  #place(): Place {
    const root = path.join(this.#root, String(this.#places++));
    mkdirSync(root);
    return new Place(root);
  }
}

function elsewhere({ id, what, shownBy, notRun }: Elsewhere): LookedAt {
  return notRun
    ? { id, what, commands: '', expected: '', seen: `not run: ${shownBy}`, ok: null, ...NO_RUNS }
    : { id, what, commands: '', expected: 'its tests pass', seen: shownBy, ok: true, ...NO_RUNS };
}

export function nameOf({ name, args }: Omit<Command, 'control'>): string {
  return name ?? args.find((arg) => !arg.startsWith('-')) ?? '';
}

function expectedOf({ commands, expected }: HostileCase): string {
  const ends = new Set([...expected, ...commands.flatMap(({ expected: own = [] }) => own)]);
  for (const { exits = [] } of commands)
    for (const exit of exits) ends.add((exit === null ? 'a signal' : `exit ${exit}`) as never);
  return [...ends].join(' or ');
}

/** The table is the same wherever it is made. */
function withoutPaths(text: string): string {
  return text.replace(/\S*wanq-reliability-\w+\/\d+\/(work\/)?/g, '').slice(0, 200);
}
