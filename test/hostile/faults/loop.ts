import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { main } from '../../../src/cli/main.js';
import { WanqError } from '../../../src/errors.js';
import { capturedIo } from '../../helpers/io.js';
import { type Fault, type FaultKind, World } from './layer.mjs';

/** Something that writes files. */
export interface Job {
  readonly name: string;
  /** Arguments of `wanq`, or work of another kind. */
  readonly does: readonly string[] | (() => Promise<void>);
  /** What it writes in the place, folders above it included. */
  readonly outputs: readonly string[];
  /** Unfinished state that it goes on with, which may be any that an undisturbed run has. */
  readonly states?: readonly string[];
  /** Unfinished state that may be any at all: it says itself what of it is whole. */
  readonly keeps?: readonly string[];
  /** Makes the place what it is before. */
  readonly prepare?: (place: string) => void;
  /** The loop tries every n-th operation; 1 if absent. */
  readonly every?: number;
}

/** A fault at every operation, one after the other. */
export interface Series {
  readonly kind: FaultKind;
  readonly lasting?: boolean;
  readonly seed?: number;
}

export const titleOf = ({ kind, lasting }: Series): string => (lasting ? `${kind} from then on` : kind);

/** All that a command may meet. */
export const SERIES: readonly Series[] = [
  { kind: 'ENOSPC' },
  { kind: 'ENOSPC', lasting: true },
  { kind: 'short' },
  { kind: 'EDQUOT', lasting: true },
  { kind: 'EIO' },
  { kind: 'EIO', lasting: true },
  { kind: 'EACCES' },
  { kind: 'EMFILE' },
  { kind: 'EMFILE', lasting: true },
  { kind: 'EROFS', lasting: true },
  { kind: 'crash' },
  { kind: 'power', seed: 1 },
  { kind: 'power', seed: 2 },
];

/** Whether nothing could be removed any more (a folder has to be opened for that), or the one thing that is left could not. */
const refusesRemoval = ({ kind, lasting }: Series, { hit }: World): boolean =>
  (lasting === true && ['EIO', 'EROFS', 'EMFILE'].includes(kind)) || hit?.op === 'unlink' || hit?.op === 'rmdir';

const endsProcess = (kind: FaultKind): boolean => ['crash', 'kill', 'power'].includes(kind);

export interface Tally {
  readonly job: string;
  readonly fault: string;
  /** Of so many operations one was met. */
  readonly every: number;
  /** Operations that were met. */
  tried: number;
  /** What outputs were after it, each counted by itself. */
  absent: number;
  old: number;
  complete: number;
  /** Of outputs, and of what a run goes on with: a state that an undisturbed run has on its way. */
  unfinished: number;
  torn: number;
  /** Runs after which something else lay in the place, and in the folder for temporary files. */
  leftover: number;
  scratch: number;
  /** Runs that ended well all the same. */
  unharmed: number;
  /** Reruns, one for each state of the place that was seen. */
  reruns: number;
  succeeded: number;
  readonly problems: string[];
}

interface Run {
  readonly code: number | 'stopped' | 'hung';
  readonly text: string;
  readonly world: World;
}

/** Names in a folder to digests of what they are. */
type Listing = ReadonlyMap<string, string>;

const HANG_MS = 60_000;

/** Where a job is run again and again. */
export class FaultLoop {
  readonly #root: string;
  readonly place: string;
  readonly #temporary: string;
  #dead: number | undefined;

  /** @param root a folder of its own */
  constructor(root: string) {
    this.#root = root;
    this.place = path.join(root, 'place');
    this.#temporary = path.join(root, 'tmp');
    for (const folder of [this.place, this.#temporary]) mkdirSync(folder, { recursive: true });
    process.env.TMPDIR = this.#temporary;
  }

  /**
   * Meets every operation of a job.
   * @param most runs; all if absent
   */
  async run(
    job: Job,
    series: Series,
    { every = job.every ?? 1, most = Number.POSITIVE_INFINITY } = {},
  ): Promise<Tally> {
    const tally = blank(job, series, every);
    const undisturbed = await this.#undisturbed(job);
    const rerun = new Set<string>();
    for (let at = 1; tally.tried < most; at += every) {
      this.#reset(job);
      const run = await this.#once(job, { ...series, at, seed: (series.seed ?? 1) * 1_000_003 + at });
      if (run.world.hit === undefined) {
        // It ended as ever; and after a loss of power, what it said was written is there.
        const last = blank(job, series, every);
        this.#judge(job, series, run, undisturbed, last, 'at its end');
        tally.problems.push(...last.problems);
        break;
      }
      tally.tried++;
      const where = `${at} (${run.world.hit.op} ${path.basename(run.world.hit.file ?? '')})`;
      this.#judge(job, series, run, undisturbed, tally, where);
      const state = this.#state(job);
      if (rerun.has(state)) continue;
      rerun.add(state);
      tally.reruns++;
      if (await this.#again(job, undisturbed, tally, where)) tally.succeeded++;
    }
    return tally;
  }

  /** @returns what is in the place before and after, with every state that the job's files had in between */
  async #undisturbed(job: Job): Promise<{ before: Listing; after: Listing; states: Map<string, Set<string>> }> {
    this.#reset(job);
    const before = this.#list(job);
    const states = new Map(
      job.states?.map((name) => [name, new Set(before.has(name) ? [before.get(name) as string] : [])]),
    );
    const run = await this.#once(job, {}, (file) => {
      const name = path.relative(this.place, file);
      states.get(name)?.add(digest(file));
    });
    if (run.code !== 0) throw new Error(`${job.name} ends with ${run.code}: ${run.text}`);
    const after = this.#list(job);
    const missing = job.outputs.find((name) => !after.has(name));
    if (missing !== undefined) throw new Error(`${job.name} has not written ${missing}`);
    return { before, after, states };
  }

  #reset({ prepare }: Job): void {
    for (const folder of [this.place, this.#temporary, this.#backups]) {
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true });
    }
    prepare?.(this.place);
  }

  #list(job: Job): Listing {
    return list(this.place, foldersAbove(job));
  }

  get #backups(): string {
    return path.join(this.#root, 'backups');
  }

  async #once(job: Job, fault: Fault, onRename?: (file: string) => void): Promise<Run> {
    const world = new World({ ...fault, backups: this.#backups, roots: [this.place, this.#temporary] });
    if (onRename) world.onRename = async (file) => onRename(file);
    const { io, said } = capturedIo(() => this.place);
    const { does } = job;
    const work = async (): Promise<number> => {
      if (typeof does !== 'function') return main(does, io);
      await does();
      return 0;
    };
    let timer: NodeJS.Timeout | undefined;
    const code = await Promise.race([
      world.run(work).catch((error: Error) => {
        const known = error instanceof WanqError ? error : undefined;
        said.stderr += `wanq: ${error.message} [${known?.code ?? 'INTERNAL'}]\n`;
        return known?.exitCode ?? 4;
      }),
      world.stopped.then(() => 'stopped' as const),
      new Promise<'hung'>((resolve) => {
        timer = setTimeout(() => resolve('hung'), HANG_MS);
      }),
    ]);
    clearTimeout(timer);
    // A disk that was done with loses power as well: what was reported as written must be there.
    if (typeof code !== 'number' || world.hit === undefined) await world.bury();
    this.#outlive(job);
    return { code, text: said.stdout + said.stderr, world };
  }

  /** Locks that a run left name a process that is gone, as a command's would by now; this one lives on. */
  #outlive(job: Job): void {
    this.#dead ??= Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));
    for (const name of names(this.place, foldersAbove(job)).filter((entry) => entry.endsWith('.lock'))) {
      const file = path.join(this.place, name);
      writeFileSync(file, readFileSync(file, 'utf8').replace(`"pid":${process.pid},`, `"pid":${this.#dead},`));
    }
  }

  #judge(
    job: Job,
    series: Series,
    { code, text, world }: Run,
    { before, after, states: known }: { before: Listing; after: Listing; states: Map<string, Set<string>> },
    tally: Tally,
    where: string,
  ): void {
    const { outputs, states = [], keeps = [] } = job;
    const problem = (what: string): void => void tally.problems.push(`${where}: ${what}`);
    const now = this.#list(job);
    let complete = true;
    for (const name of outputs) {
      const found = now.get(name);
      const is = stateOf(found, before.get(name), after.get(name), known.get(name));
      tally[is]++;
      complete &&= is === 'complete';
      if (is === 'torn') problem(`${name} is torn`);
    }
    for (const name of states) {
      const found = now.get(name);
      if (outputs.includes(name) || found === undefined) continue;
      const is = known.get(name)?.has(found) ? 'unfinished' : 'torn';
      tally[is]++;
      if (is === 'torn') problem(`${name} is torn`);
    }
    tally.unfinished += keeps.filter((name) => now.has(name)).length;
    const expected = [...outputs, ...states, ...keeps, ...before.keys()];
    const others = [...now.keys()].filter((name) => !expected.includes(name));
    const scratch = readdirSync(this.#temporary);
    if (others.length > 0) tally.leftover++;
    if (scratch.length > 0) tally.scratch++;
    if (code === 'hung') problem('it hangs');
    if (typeof code !== 'number' || endsProcess(series.kind)) {
      if (code === 0 && !complete) problem('it ended well, and an output is not there after a loss of power');
      return;
    }
    const left = [...others, ...scratch];
    if (left.length > 0 && !refusesRemoval(series, world)) problem(`left ${left.join(', ')}`);
    if (world.handles.size > 0) problem(`${world.handles.size} files are open still`);
    if ([...world.children].some(({ exitCode, signalCode }) => exitCode === null && signalCode === null)) {
      problem('a process runs still');
    }
    if (code === 0) {
      tally.unharmed++;
      if (!complete) problem('it ended well without its outputs');
      return;
    }
    const lines = text.split('\n').filter((line) => line.startsWith('wanq: '));
    if (code !== 5) problem(`ended with ${code}: ${text.trim()}`);
    else if (lines.length !== 1 || /^\s+at |INTERNAL/m.test(text)) problem(`said ${text.trim()}`);
  }

  /** What a rerun goes by: names and contents; of what lies under a random name, that it is there. */
  #state(job: Job): string {
    const listing = [...this.#list(job), ...list(this.#temporary)].map(([name, is]) => {
      const general = name.replace(/\d+-[0-9a-f]{8}|wanq-\w{6}/, '#');
      return general === name ? [name, is] : [general];
    });
    return JSON.stringify(listing.sort());
  }

  /** Runs the job once more, without a fault; where it refuses to replace a complete output, without that. */
  async #again(
    job: Job,
    { before, after }: { before: Listing; after: Listing },
    tally: Tally,
    where: string,
  ): Promise<boolean> {
    const problems = tally.problems.length;
    const problem = (what: string): void => void tally.problems.push(`${where}, again: ${what}`);
    const scratch = new Set(readdirSync(this.#temporary));
    let { code, text } = await this.#once(job, {});
    if (code === 2 && text.includes('[OUTPUT_EXISTS]')) {
      const there = this.#list(job);
      const complete = job.outputs.filter((name) => !before.has(name) && there.get(name) === after.get(name));
      if (complete.length === 0) problem(`refused: ${text.trim()}`);
      for (const name of complete) rmSync(path.join(this.place, name), { recursive: true });
      ({ code, text } = await this.#once(job, {}));
    }
    if (code !== 0) problem(`ended with ${code}: ${text.trim()}`);
    const now = this.#list(job);
    for (const name of new Set([...now.keys(), ...after.keys()])) {
      if (now.get(name) === after.get(name)) continue;
      problem(after.has(name) ? `${name} is not what it is undisturbed` : `${name} is still there`);
    }
    const more = readdirSync(this.#temporary).filter((name) => !scratch.has(name));
    if (more.length > 0) problem(`left ${more.join(', ')}`);
    return tally.problems.length === problems;
  }
}

const blank = ({ name }: Job, series: Series, every: number): Tally => ({
  ...{ job: name, fault: titleOf(series), every, tried: 0, absent: 0, old: 0, complete: 0, unfinished: 0, torn: 0 },
  ...{ leftover: 0, scratch: 0, unharmed: 0, reruns: 0, succeeded: 0, problems: [] },
});

function stateOf(
  found: string | undefined,
  before: string | undefined,
  after: string | undefined,
  between: ReadonlySet<string> | undefined,
): 'absent' | 'old' | 'complete' | 'unfinished' | 'torn' {
  if (found === after) return 'complete';
  if (found === before) return found === undefined ? 'absent' : 'old';
  return found !== undefined && between?.has(found) ? 'unfinished' : 'torn';
}

/** Folders of the place that a job's outputs lie in. */
function foldersAbove({ outputs }: Job): string[] {
  return outputs.flatMap((name) => name.split(path.sep).map((_, i, parts) => parts.slice(0, i).join(path.sep)));
}

/** @param opened folders in it whose entries are named each by itself, where they have any */
function names(folder: string, opened: readonly string[] = [], prefix = ''): string[] {
  return readdirSync(path.join(folder, prefix)).flatMap((entry) => {
    const name = path.join(prefix, entry);
    const within = opened.includes(name) ? names(folder, opened, name) : [];
    return within.length > 0 ? within : [name];
  });
}

function list(folder: string, opened: readonly string[] = []): Listing {
  return new Map(names(folder, opened).map((name) => [name, digest(path.join(folder, name))]));
}

/** SHA-256 of all there is below a path. */
export function digest(file: string): string {
  const hash = createHash('sha256');
  const add = (at: string, name: string): void => {
    const info = lstatSync(at);
    if (info.isSymbolicLink()) hash.update(`link ${name} ${readlinkSync(at)}\0`);
    else if (info.isDirectory()) {
      hash.update(`folder ${name}\0`);
      for (const child of readdirSync(at).sort()) add(path.join(at, child), path.join(name, child));
    } else hash.update(`file ${name} ${info.size}\0`).update(readFileSync(at));
  };
  add(file, '');
  return hash.digest('hex');
}
