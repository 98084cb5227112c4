import { spawn } from 'node:child_process';
import path from 'node:path';
import { ROOT } from '../../helpers/fixtures.js';
import type { Command } from './case.js';
import type { Place } from './place.js';
import { type Usage, usageOf } from './processes.js';

/** A command must end within this time, ms. */
export const TIME_LIMIT = 10_000;

/** What it may take in memory beyond its control. */
export const MEMORY_LIMIT = 512 * 2 ** 20;

/** After this time it is ended, on however busy a machine. */
const KILL_AFTER = 60_000;

/** And at this size. */
const KILL_ABOVE = 4 * 2 ** 30;

const POLL = 80;

export interface Seen {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
  /** Whether it took too long, and not because other programs had the cores. */
  readonly tooLong: boolean;
  /** Processes of it that were left. */
  readonly left: readonly number[];
}

/** Runs `wanq` in a process group of its own, with nothing of the environment but PATH. */
export async function run(command: Omit<Command, 'control'>, place: Place, wanq = WANQ): Promise<Seen> {
  const { PATH = '' } = process.env;
  const temporary = path.join(place.root, 'tmp');
  const env: Record<string, string> = { PATH, HOME: path.join(place.root, 'home'), TMPDIR: temporary };
  for (const [name, value] of Object.entries(command.env ?? {})) {
    if (value === null) delete env[name];
    else env[name] = value;
  }
  // Cores would be dumped into the working folder.
  const line = `ulimit -c 0 2>/dev/null; ${command.sh ?? 'exec "$@"'}`;
  const start = performance.now();
  const child = spawn('/bin/sh', ['-c', line, 'sh', process.execPath, wanq, ...command.args], {
    cwd: place.path(),
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const pid = child.pid as number;
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      if (said[name].length < 2 ** 22) said[name] += text;
    });
  }
  let ended = false;
  const end = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.on('error', reject).on('close', (code, signal) => {
      ended = true;
      resolve({ code, signal });
    });
  });
  const total = { peakBytes: 0, cpuMs: 0, waitedMs: 0, killed: false };
  const seen = new Set<number>();
  const timer = setInterval(() => {
    const usage: Usage | undefined = usageOf(pid);
    for (const found of usage?.pids ?? []) seen.add(found);
    for (const key of ['peakBytes', 'cpuMs', 'waitedMs'] as const) total[key] = Math.max(total[key], usage?.[key] ?? 0);
    if (performance.now() - start < KILL_AFTER && total.peakBytes < KILL_ABOVE) return;
    total.killed = true;
    endGroup(pid);
  }, POLL);
  const acting = command.during?.({
    pid,
    place,
    stderr: () => said.stderr,
    children: () => (usageOf(pid)?.pids ?? []).filter((found) => found !== pid),
    until: async (ready) => {
      while (!ended && !ready()) await new Promise((resolve) => setTimeout(resolve, 5));
      return !ended;
    },
  });
  try {
    const { code, signal } = await end;
    await acting;
    const ms = performance.now() - start;
    const busy = total.waitedMs > ms / 2;
    const tooLong = total.killed || total.cpuMs > TIME_LIMIT || (ms > TIME_LIMIT && !busy);
    return { code, signal, ...said, ms, ...total, tooLong, left: await survivors(seen) };
  } finally {
    clearInterval(timer);
    endGroup(pid);
  }
}

export const WANQ = path.join(ROOT, 'bin', 'wanq.js');

/** A process that holds onnxruntime looks once a second whether its parent is there. */
async function survivors(pids: ReadonlySet<number>): Promise<number[]> {
  let left: number[] = [];
  for (let tries = 0; tries < 30; tries++) {
    left = [...pids].filter((pid) => usageOf(pid) !== undefined);
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return left;
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}
