import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { WanqError } from '../../errors.js';
import { runTile, type TileResult, type TileTask } from './tile.js';

/** Memory for one tile on its way from file to file, which threads share: nothing is copied or left to the garbage collector. */
export interface Slot {
  readonly input: SharedArrayBuffer;
  readonly output: SharedArrayBuffer;
}

/** Runs tile tasks. */
export interface TilePool {
  /** Tasks that run at the same time. */
  readonly size: number;
  run(task: TileTask, slot: Slot): Promise<TileResult>;
  close(): Promise<void>;
}

/** Below this much work, starting threads takes longer than they save, bytes. */
const THREADS_FROM = 64 * 2 ** 20;

const MOST_THREADS = 4;

/** @param bytes that will be converted in all */
export function openPool(bytes: number): TilePool {
  if (bytes < THREADS_FROM) {
    return { size: 1, run: async (task, { input, output }) => runTile(task, input, output), close: async () => {} };
  }
  return new ThreadPool(Math.min(availableParallelism(), MOST_THREADS));
}

export interface PoolMessage {
  readonly task: TileTask;
  readonly slot: Slot;
}

/** Worker threads; tasks go to the one with the least to do. */
class ThreadPool implements TilePool {
  readonly size: number;
  readonly #threads: PoolThread[];

  constructor(size: number) {
    this.size = size;
    const file = createRequire(import.meta.url).resolve('#tile-worker');
    this.#threads = Array.from({ length: size }, () => new PoolThread(file));
  }

  run(task: TileTask, slot: Slot): Promise<TileResult> {
    const [thread] = [...this.#threads].sort((a, b) => a.waiting - b.waiting);
    return (thread as PoolThread).run(task, slot);
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

interface Waiting {
  resolve(result: TileResult): void;
  reject(error: unknown): void;
}

/** One worker, which answers in order. */
class PoolThread {
  readonly #worker: Worker;
  readonly #queue: Waiting[] = [];
  #failed: WanqError | undefined;

  constructor(file: string) {
    this.#worker = new Worker(file);
    this.#worker.on('message', (result: TileResult) => this.#queue.shift()?.resolve(result));
    this.#worker.on('error', (cause) => {
      this.#failed = new WanqError('RUNTIME_CRASHED', `a conversion thread failed: ${cause.message}`, { cause });
      for (const { reject } of this.#queue.splice(0)) reject(this.#failed);
    });
  }

  get waiting(): number {
    return this.#queue.length;
  }

  run(task: TileTask, slot: Slot): Promise<TileResult> {
    if (this.#failed) return Promise.reject(this.#failed);
    return new Promise((resolve, reject) => {
      this.#queue.push({ resolve, reject });
      const message: PoolMessage = { task, slot };
      this.#worker.postMessage(message);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
