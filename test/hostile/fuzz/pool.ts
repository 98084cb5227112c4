import { type ChildProcess, fork } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Kind } from './fuzzer.js';
import { addTally, type Batch, emptyTally, type FromWorker, type Tally } from './protocol.js';

const WORKER = fileURLToPath(new URL('worker.ts', import.meta.url));

/** Inputs that a process is given at a time: those of one that died are looked at again. */
const BATCH = 200;

const POLL_MS = 100;

/** Opening the corpus and looking at all of it unmutated. */
const OPENING_MS = 120_000;

export interface Limits {
  /** No answer for so long is a hang. */
  readonly hangMs: number;
  /** Beyond what valid inputs take. */
  readonly memoryBytes: number;
  readonly heapMegabytes: number;
}

export const LIMITS: Limits = { hangMs: 10_000, memoryBytes: 512 * 2 ** 20, heapMegabytes: 768 };

/** What was seen of one kind of input. */
export interface KindReport {
  readonly tally: Tally;
  crashes: number;
  hangs: number;
  overMemory: number;
  peakBytes: number;
  controlBytes: number;
  /** Time of all processes together. */
  busyMs: number;
}

export function emptyReport(): KindReport {
  return { tally: emptyTally(), crashes: 0, hangs: 0, overMemory: 0, peakBytes: 0, controlBytes: 0, busyMs: 0 };
}

/** How a process ended before its batch did. */
interface Death {
  readonly how: 'crashes' | 'hangs' | 'overMemory';
  readonly index: number;
  readonly what: string;
}

/** Processes that look at inputs, each watched: one that dies, hangs or takes too much memory is a finding, and another goes on. */
export class Pool {
  readonly #corpus: string;
  readonly #work: string;
  readonly #limits: Limits;

  /** @param work folder for the processes' own folders */
  constructor(corpus: string, work: string, limits = LIMITS) {
    this.#corpus = corpus;
    this.#work = work;
    this.#limits = limits;
  }

  /**
   * @param next the inputs to look at next, or none; asked by every process when it is free
   * @param seen called after each batch
   */
  async run(
    workers: number,
    next: () => Omit<Batch, 'skip'> | undefined,
    seen: (kind: Batch['kind'], report: KindReport) => void,
  ): Promise<void> {
    await Promise.all(
      Array.from({ length: workers }, async () => {
        let worker: Worker | undefined;
        try {
          for (let batch = next(); batch; batch = next()) {
            const report = emptyReport();
            const start = performance.now();
            const skip: number[] = [];
            for (let done = false; !done; ) {
              worker ??= await Worker.start(this.#corpus, this.#work, this.#limits);
              const end = await worker.look({ ...batch, skip });
              if ('how' in end) {
                await worker.stop();
                worker = undefined;
                // What valid inputs leave behind adds up: it counts where a fresh process takes as much for this input alone.
                const drift = end.how === 'overMemory' && !(await this.#isAlone(batch, end.index));
                if (drift) continue;
                report[end.how]++;
                report.tally.inputs++;
                report.tally.findings.push({ index: end.index, name: batch.kind, what: end.what });
                skip.push(end.index);
              } else {
                addTally(report.tally, end.tally);
                report.peakBytes = end.peakBytes;
                report.controlBytes = end.controlBytes;
                done = true;
              }
            }
            report.busyMs = performance.now() - start;
            seen(batch.kind, report);
          }
        } finally {
          await worker?.stop();
        }
      }),
    );
  }

  async #isAlone(batch: Omit<Batch, 'skip'>, index: number): Promise<boolean> {
    const worker = await Worker.start(this.#corpus, this.#work, this.#limits);
    try {
      const end = await worker.look({ ...batch, from: index, to: index + 1, skip: [] });
      return 'how' in end;
    } finally {
      await worker.stop();
    }
  }
}

class Worker {
  readonly #process: ChildProcess;
  readonly #folder: string;
  readonly #beat: string;
  readonly #limits: Limits;
  readonly #errors: string[] = [];

  private constructor(child: ChildProcess, folder: string, beat: string, limits: Limits) {
    this.#process = child;
    this.#folder = folder;
    this.#beat = beat;
    this.#limits = limits;
    child.stderr?.on('data', (chunk) => {
      this.#errors.push(String(chunk));
      if (this.#errors.length > 50) this.#errors.shift();
    });
  }

  static async start(corpus: string, work: string, limits: Limits): Promise<Worker> {
    const folder = await mkdtemp(path.join(work, 'worker-'));
    await mkdir(path.join(folder, 'inside'));
    const beat = path.join(folder, 'beat');
    const child = fork(WORKER, [corpus, folder, beat, String(limits.memoryBytes)], {
      execArgv: ['--import', 'tsx', `--max-old-space-size=${limits.heapMegabytes}`],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced',
    });
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', (code) => reject(new Error(`a fuzzing process did not start: ${code}`)));
    });
    return new Worker(child, folder, beat, limits);
  }

  /** @throws Error where the process cannot work at all: a valid input is a finding */
  look(batch: Batch): Promise<(FromWorker & { type: 'done' }) | Death> {
    const child = this.#process;
    return new Promise((resolve, reject) => {
      let [seen, since] = [-1, performance.now()];
      const settle = (end: (FromWorker & { type: 'done' }) | Death | Error): void => {
        clearInterval(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        if (end instanceof Error) reject(end);
        else resolve(end);
      };
      const onMessage = (message: FromWorker): void => {
        if (message.type === 'done') settle(message);
        else if (message.type === 'broken') settle(new Error(message.what));
        else if (message.type === 'memory') {
          const what = `took ${Math.round(message.bytes / 2 ** 20)} MiB more than valid inputs`;
          settle({ how: 'overMemory', index: message.index, what });
        }
      };
      const onExit = (code: number | null, signal: string | null): void => {
        void this.#at().then(([index]) => {
          const what = `the process ended (${signal ?? code}): ${this.#errors.join('').slice(-2000)}`;
          settle(index < 0 ? new Error(what) : { how: 'crashes', index, what });
        });
      };
      const timer = setInterval(() => {
        void this.#at().then(([index, count]) => {
          if (count !== seen) [seen, since] = [count, performance.now()];
          const limit = index < 0 ? OPENING_MS : this.#limits.hangMs;
          if (performance.now() - since < limit) return;
          child.off('exit', onExit);
          settle(
            index < 0
              ? new Error('a fuzzing process does not open')
              : { how: 'hangs', index, what: `no answer in ${limit} ms` },
          );
        });
      }, POLL_MS);
      child.on('message', onMessage);
      child.on('exit', onExit);
      child.send({ batch });
    });
  }

  /** Where the process is. @returns its input, and how many it has begun */
  async #at(): Promise<[number, number]> {
    const bytes = await readFile(this.#beat).catch(() => Buffer.alloc(0));
    return bytes.length < 8 ? [-1, 0] : [bytes.readInt32LE(0), bytes.readInt32LE(4)];
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}

export interface Wanted {
  readonly seed: number;
  /** Inputs of each kind; Infinity: until the time is over. */
  readonly counts: Readonly<Record<Kind, number>>;
  readonly until: number;
}

/** Gives out batches, of the kinds in turn, until there are no more inputs or the time is over. */
export function batches({ seed, counts, until }: Wanted): () => Omit<Batch, 'skip'> | undefined {
  const next = new Map((Object.keys(counts) as Kind[]).map((kind) => [kind, 0]));
  return () => {
    if (Date.now() >= until) return undefined;
    const [kind, from] = [...next].filter(([of, done]) => done < counts[of]).sort(([, a], [, b]) => a - b)[0] ?? [];
    if (kind === undefined || from === undefined) return undefined;
    const to = Math.min(from + BATCH, counts[kind]);
    next.set(kind, to);
    return { kind, seed, from, to };
  };
}
