import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';
import { ROOT } from './fixtures.js';

export const WANQ = path.join(ROOT, 'bin', 'wanq.js');

/** Two prompts of fixtures/micro-wan/README.md. */
export const PROMPTS = [
  'a small red circle moving left over a dark background',
  'large yellow triangle, growing, gray background',
];

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  /** What it has said on stderr so far. */
  stderr(): string;
}

type Env = Readonly<Record<string, string>>;

/** A folder to run `wanq` in, with a home and a folder for temporary files of its own. Gone after the file's tests. */
export class Workplace {
  readonly root: string;

  constructor() {
    this.root = realpathSync(mkdtempSync(path.join(tmpdir(), 'wanq-e2e-')));
    for (const name of ['work', 'home', 'tmp']) mkdirSync(path.join(this.root, name));
    afterAll(() => rm(this.root, { recursive: true, force: true }));
  }

  /** A path below the working folder. */
  path(...parts: string[]): string {
    return path.join(this.root, 'work', ...parts);
  }

  write(name: string, content: string | Uint8Array): string {
    writeFileSync(this.path(name), content);
    return name;
  }

  /**
   * Starts `wanq` with nothing of the tests' environment but PATH and the number of threads.
   * @param group whether it leads a process group of its own, as a shell's jobs do
   */
  start(args: readonly string[], { env = {}, group = false }: { env?: Env; group?: boolean } = {}): Running {
    const { PATH = '', SystemRoot = '', WANQ_RUNTIME_THREADS = '' } = process.env;
    const temporary = path.join(this.root, 'tmp');
    const child = spawn(process.execPath, [WANQ, ...args], {
      cwd: this.path(),
      env: {
        ...{ PATH, SystemRoot, WANQ_RUNTIME_THREADS, HOME: path.join(this.root, 'home') },
        ...{ TMPDIR: temporary, TEMP: temporary, ...env },
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: group,
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const outcome = new Promise<Outcome>((resolve, reject) => {
      child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
    });
    return { child, outcome, stderr: () => stderr };
  }

  wanq(args: readonly string[], env: Env = {}): Promise<Outcome> {
    return this.start(args, { env }).outcome;
  }

  /** As {@link wanq}, for a command that a test builds on. */
  async succeed(args: readonly string[], env: Env = {}): Promise<Outcome> {
    const outcome = await this.wanq(args, env);
    if (outcome.code !== 0) throw new Error(`wanq ${args.join(' ')} ended with ${outcome.code}: ${outcome.stderr}`);
    return outcome;
  }

  /** Every file of wanq with its size, in the working folder, beside it and in the folder for temporary files. */
  listing(): string[] {
    // What onnxruntime itself leaves in the home and temporary folders is the business of one test.
    return list(this.root).filter((line) => !line.startsWith('home') && !/^tmp\/(?!wanq)/.test(line));
  }

  /** What was left in the home folder and the folder for temporary files, by whomever. */
  leftovers(): string[] {
    return list(this.root).filter((line) => /^(home|tmp)\//.test(line));
  }
}

function list(root: string): string[] {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  return names.map((name) => {
    // One that is just being written is renamed.
    const info = statSync(path.join(root, name), { throwIfNoEntry: false });
    return info?.isFile() ? `${name.replaceAll('\\', '/')} ${info.size}` : name.replaceAll('\\', '/');
  });
}

/** Waits until `ready` gives something other than undefined and false. */
export async function until<T>(ready: () => T | undefined | false, ms = 20_000): Promise<T> {
  for (const end = Date.now() + ms; Date.now() < end; ) {
    const value = ready();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`nothing happened within ${ms} ms`);
}

/** Processes that `child` started and that are alive. */
export function childrenOf({ pid }: ChildProcess): number[] {
  return processes()
    .filter(({ parent }) => parent === pid)
    .map((found) => found.pid);
}

/** Which of `pids` are alive. */
export function alive(pids: readonly number[]): number[] {
  return processes().flatMap(({ pid }) => (pids.includes(pid) ? [pid] : []));
}

function processes(): { pid: number; parent: number }[] {
  const table = execFileSync('ps', ['-axo', 'pid=,ppid=,stat='], { encoding: 'utf8' });
  return table.split('\n').flatMap((line) => {
    const [pid, parent, state] = line.trim().split(/\s+/);
    return state === undefined || state.startsWith('Z') ? [] : [{ pid: Number(pid), parent: Number(parent) }];
  });
}
