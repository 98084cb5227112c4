import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

/** What a command and all of its descendants took together. */
export interface Measured {
  /** From the start of the command to its exit. */
  readonly seconds: number;
  /** User and system time, as far as the samples saw it: the last `everyMs` of each process are missing. */
  readonly cpuSeconds: number;
  /** The largest sum of resident memory at one time. Pages that processes share count once for each of them. */
  readonly peakBytes: number;
  /** Parts of `peakBytes`: memory that is the processes' own, and pages of files (mapped weights, libraries), which the kernel can drop. */
  readonly peakAnonBytes: number;
  readonly peakFileBytes: number;
  readonly samples: number;
  readonly exitCode: number;
  /** Empty where `stdio` is inherit. */
  readonly stdout: string;
  readonly stderrTail: string;
}

export interface MeasureOptions {
  /** The whole environment; default: this process's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** pipe (default) keeps stdout and stderr; inherit shows them while the command runs. */
  readonly stdio?: 'pipe' | 'inherit';
  /** Time between two samples, ms. */
  readonly everyMs?: number;
  /** Exit codes that are no failure. */
  readonly accept?: readonly number[];
}

const TAIL = 4000;
/** Kernel clock ticks a second, as /proc counts CPU time. */
const TICKS = 100;

/**
 * Runs a command and samples the memory of its process tree from /proc.
 * @throws Error where the command does not start, ends by a signal or with another exit code than `accept` allows; on other systems than Linux
 */
export async function measure(
  command: string,
  args: readonly string[],
  { env, cwd, stdio = 'pipe', everyMs = 20, accept = [0] }: MeasureOptions = {},
): Promise<Measured> {
  if (process.platform !== 'linux') throw new Error('this measures on Linux only: it reads /proc');
  const start = performance.now();
  const child = spawn(command, args, { env, cwd, stdio: ['ignore', stdio, stdio] });
  const out: Buffer[] = [];
  let stderrTail = '';
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => {
    stderrTail = (stderrTail + chunk.toString()).slice(-TAIL);
  });
  const tree = new ProcessTree(child.pid);
  const timer = setInterval(() => tree.sample(), everyMs);
  let seconds = 0;
  child.on('exit', () => {
    seconds = (performance.now() - start) / 1000;
    clearInterval(timer);
  });
  const ended = await new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.on('error', reject).on('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
  }).finally(() => clearInterval(timer));
  if (typeof ended !== 'number' || !accept.includes(ended)) {
    throw new Error(`${[command, ...args].join(' ')} ended with ${ended}: ${stderrTail.trim()}`);
  }
  return { seconds, ...tree.totals(), exitCode: ended, stdout: Buffer.concat(out).toString(), stderrTail };
}

type Totals = Pick<Measured, 'cpuSeconds' | 'peakBytes' | 'peakAnonBytes' | 'peakFileBytes' | 'samples'>;

class ProcessTree {
  /** Alive when last seen. A process that outlives its parent stays. */
  readonly #alive = new Set<number>();
  /** CPU ticks by process, dead ones too. */
  readonly #ticks = new Map<number, number>();
  #peak = { bytes: 0, anon: 0, file: 0 };
  #samples = 0;

  constructor(root: number | undefined) {
    if (root !== undefined) this.#alive.add(root);
  }

  sample(): void {
    const now = { bytes: 0, anon: 0, file: 0 };
    // Children are added while this goes on, and a set visits what is added to it.
    for (const pid of this.#alive) {
      try {
        for (const child of childrenOf(pid)) this.#alive.add(child);
        const status = readFileSync(`/proc/${pid}/status`, 'latin1');
        now.bytes += field(status, 'VmRSS');
        now.anon += field(status, 'RssAnon');
        now.file += field(status, 'RssFile');
        this.#ticks.set(pid, ticksOf(pid));
      } catch {
        this.#alive.delete(pid);
      }
    }
    this.#samples++;
    if (now.bytes > this.#peak.bytes) this.#peak = now;
  }

  totals(): Totals {
    const { bytes, anon, file } = this.#peak;
    const ticks = [...this.#ticks.values()].reduce((sum, value) => sum + value, 0);
    return {
      cpuSeconds: ticks / TICKS,
      peakBytes: bytes,
      peakAnonBytes: anon,
      peakFileBytes: file,
      samples: this.#samples,
    };
  }
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      const text = readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').trim();
      return text === '' ? [] : text.split(' ').map(Number);
    } catch {
      return []; // The thread has ended.
    }
  });
}

/** A size of /proc/PID/status, bytes; 0 where it is missing (a process that has ended and was not waited for). */
function field(status: string, name: string): number {
  const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1];
  return kilobytes === undefined ? 0 : Number(kilobytes) * 1024;
}

/** User and system time of a process, without its children's. */
function ticksOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The second field is the command in brackets and may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** Empties the page cache, for a cold read. @returns whether that was allowed */
export function dropCaches(): boolean {
  try {
    execFileSync('sync');
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}

/** What figures were measured on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  /** What this process may use. */
  readonly memoryGB: number;
  readonly kernel: string;
  readonly node: string;
  readonly date: string;
}

export function machine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryGB: Number((Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY) / 1e9).toFixed(1)),
    kernel: release(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
