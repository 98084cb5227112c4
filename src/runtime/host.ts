import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { printable, WanqError } from '../errors.js';
import type {
  Feed,
  ModelSource,
  Reply,
  Request,
  RunResult,
  SessionInfo,
  SessionOptions,
  WorkerStatus,
} from './protocol.js';

export interface HostOptions {
  /** Kills the runtime at once; waiting calls fail with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Longest one call may take, ms. A full 5B forward on a laptop takes many minutes, so the default is an hour. */
  readonly timeoutMs?: number;
  /** Told of every session that was created. */
  readonly onSession?: ((info: SessionInfo, source: ModelSource) => void) | undefined;
}

const DEFAULT_TIMEOUT_MS = 60 * 60 * 1000;

/** Node's timers fire at once beyond this. */
const MAX_TIMER_MS = 2 ** 31 - 1;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  timer: NodeJS.Timeout;
}

/**
 * onnxruntime in a child process. A crash, hang or out-of-memory in native code becomes a {@link WanqError}; this process and its timers
 * go on.
 */
export class RuntimeHost {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #onSession: HostOptions['onSession'];
  #nextId = 1;
  #ended: unknown;
  #busySince = 0;
  #busyMs = 0;

  constructor({ signal, timeoutMs = DEFAULT_TIMEOUT_MS, onSession }: HostOptions = {}) {
    signal?.throwIfAborted();
    this.#onSession = onSession;
    this.#timeoutMs = Math.min(timeoutMs, MAX_TIMER_MS);
    this.#signal = signal;
    const worker = createRequire(import.meta.url).resolve('#ort-worker');
    this.#child = fork(worker, {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      execArgv: [],
      // From 1.29 on, onnxruntime uploads usage data and leaves a database in the home folder unless told not to.
      env: { ORT_DISABLE_TELEMETRY: '1', ...process.env },
    });
    this.#child.on('message', (reply) => this.#settle(reply as Reply));
    this.#child.on('error', (error) => this.#end(new WanqError('RUNTIME_CRASHED', error.message, { cause: error })));
    this.#child.on('exit', (code, killedBy) => this.#end(crashError(code, killedBy)));
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** @throws WanqError PROVIDER_UNAVAILABLE, RUNTIME_FAILED (the model does not load), RUNTIME_CRASHED, RUNTIME_TIMEOUT */
  async createSession(source: ModelSource, options: SessionOptions): Promise<Session> {
    const session = this.#nextId;
    const info = await this.#call<SessionInfo>({ kind: 'create', session, source, options });
    this.#onSession?.(info, source);
    return new Session(info, {
      run: (feeds, fetches, holds) => this.#call<RunResult>({ kind: 'run', session, feeds, fetches, holds }),
      endProfiling: () => this.#call<null>({ kind: 'profile', session }),
      release: () => this.#call<null>({ kind: 'release', session }),
    });
  }

  /** Process id; undefined before the process runs. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Wall time in which the runtime had something to do, ms. */
  get busyMs(): number {
    return this.#busyMs + (this.#waiting.size > 0 ? performance.now() - this.#busySince : 0);
  }

  /** Forgets held outputs. */
  async drop(keys: readonly string[]): Promise<void> {
    await this.#call<null>({ kind: 'drop', keys });
  }

  status(): Promise<WorkerStatus> {
    return this.#call<WorkerStatus>({ kind: 'status' });
  }

  /** Ends the child process. Nothing of it is left when this returns. */
  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#end(new Error('the runtime was closed'));
    await gone;
  }

  readonly #onAbort = (): void => this.#end(this.#signal?.reason);

  #call<T>(request: Request): Promise<T> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#end(
          new WanqError('RUNTIME_TIMEOUT', `onnxruntime did not answer within ${this.#timeoutMs / 1000} s`, {
            hint: 'try a smaller input',
          }),
        );
      }, this.#timeoutMs);
      if (this.#waiting.size === 0) this.#busySince = performance.now();
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject, timer });
      this.#child.send({ id, request }, (error) => {
        if (error) this.#end(new WanqError('RUNTIME_CRASHED', 'the runtime process is gone', { cause: error }));
      });
    });
  }

  #settle({ id, result, error }: Reply): void {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#busyMs += performance.now() - this.#busySince;
    clearTimeout(waiting.timer);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(runtimeError(error));
  }

  #end(error: unknown): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#child.kill('SIGKILL');
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }
}

interface SessionCalls {
  run(
    feeds: Readonly<Record<string, Feed>>,
    fetches: readonly string[],
    holds: Readonly<Record<string, string>>,
  ): Promise<RunResult>;
  endProfiling(): Promise<null>;
  release(): Promise<null>;
}

/** A loaded model inside a {@link RuntimeHost}. */
export class Session {
  readonly info: SessionInfo;
  readonly #calls: SessionCalls;

  /** @internal */
  constructor(info: SessionInfo, calls: SessionCalls) {
    this.info = info;
    this.#calls = calls;
  }

  /**
   * @param fetches outputs to compute; all of them if absent
   * @param holds outputs to leave in the runtime's process, each under a key that later runs can be fed by; `drop` frees them
   * @throws WanqError RUNTIME_FAILED, RUNTIME_CRASHED, RUNTIME_TIMEOUT
   */
  run(
    feeds: Readonly<Record<string, Feed>>,
    fetches: readonly string[] = this.info.outputs,
    holds: Readonly<Record<string, string>> = {},
  ): Promise<RunResult> {
    return this.#calls.run(feeds, fetches, holds);
  }

  /** Writes the profile that the session was opened for. */
  async endProfiling(): Promise<void> {
    await this.#calls.endProfiling();
  }

  async release(): Promise<void> {
    await this.#calls.release();
  }
}

/** onnxruntime's errors are C++ text that can quote the model's bytes. */
function runtimeError(message: string): WanqError {
  const text = printable(message, 240);
  if (/AppendExecutionProvider|WebGPU adapter|backend not found|no available backend/i.test(text)) {
    return new WanqError('PROVIDER_UNAVAILABLE', `no execution provider took the model: ${text}`, {
      hint: 'use --device cpu, or install the libraries the provider needs',
    });
  }
  return new WanqError('RUNTIME_FAILED', `onnxruntime: ${text}`);
}

function crashError(code: number | null, signal: NodeJS.Signals | null): WanqError {
  const how = signal ? `was ended by ${signal}` : `ended with code ${code}`;
  const hint =
    signal === 'SIGKILL' ? 'often too little memory: close other programs or use a smaller input' : undefined;
  return new WanqError('RUNTIME_CRASHED', `the onnxruntime process ${how}`, hint === undefined ? {} : { hint });
}
