import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { WanqError } from '../errors.js';
import { endError, startError } from './ends.js';
import { runtimeEnvironment, TIMEOUT_VARIABLE } from './environment.js';
import { runtimeError } from './failures.js';
import { missingError } from './missing.js';
import {
  assertSendable,
  type Feed,
  type ModelSource,
  type Reply,
  type Request,
  type RunResult,
  type SessionInfo,
  type SessionOptions,
  type WorkerStatus,
} from './protocol.js';

export interface HostOptions {
  /** Kills the runtime at once; waiting calls fail with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Longest one call may take, ms; without it, what WANQ_RUNTIME_TIMEOUT says, or an hour. */
  readonly timeoutMs?: number;
  /** Told of every session that was created. */
  readonly onSession?: ((info: SessionInfo, source: ModelSource) => void) | undefined;
}

/** Of what the process writes to stderr, the end is kept for the case that it crashes. */
const STDERR_CHARS = 4096;

/** A process whose channel breaks has this long to end by itself, and so tell why. */
const LAST_WORDS_MS = 1000;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/**
 * onnxruntime in a child process. A crash, hang or out-of-memory in native code becomes a {@link WanqError}; this process and its timers
 * go on.
 */
export class RuntimeHost {
  readonly #child: ChildProcess | undefined;
  readonly #waiting = new Map<number, Waiting>();
  readonly #timeoutMs: number;
  readonly #threads: number | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #onSession: HostOptions['onSession'];
  #timer: NodeJS.Timeout | undefined;
  #nextId = 1;
  #stderr = '';
  #ended: unknown;
  #busySince = 0;
  #busyMs = 0;

  /** @throws WanqError USAGE where the environment asks for what cannot be */
  constructor({ signal, timeoutMs, onSession }: HostOptions = {}) {
    signal?.throwIfAborted();
    const environment = runtimeEnvironment(process.env);
    this.#onSession = onSession;
    this.#timeoutMs = timeoutMs ?? environment.timeoutMs;
    this.#threads = environment.threads;
    this.#signal = signal;
    this.#child = this.#start();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** @returns nothing where it did not start; calls then say why */
  #start(): ChildProcess | undefined {
    try {
      const worker = createRequire(import.meta.url).resolve('#ort-worker');
      const child = fork(worker, [String(process.pid)], {
        serialization: 'advanced',
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
        execArgv: [],
        // From 1.29 on, onnxruntime uploads usage data and leaves a database in the home folder unless told not to.
        env: { ORT_DISABLE_TELEMETRY: '1', ...process.env },
      });
      child.on('error', (error) => this.#end(startError(error)));
      child.on('message', (reply) => this.#settle(reply as Reply));
      child.stderr
        ?.setEncoding('utf8')
        .on('data', (text: string) => {
          this.#stderr = (this.#stderr + text).slice(-STDERR_CHARS);
        })
        .on('error', () => {});
      // Later than 'exit': all of stderr has been read.
      child.on('close', (code, killedBy) => this.#end(endError(code, killedBy, this.#stderr)));
      child.on('disconnect', () => this.#breakOff());
      return child;
    } catch (error) {
      this.#ended = startError(error);
      return undefined;
    }
  }

  /**
   * @throws WanqError PROVIDER_UNAVAILABLE, RUNTIME_FAILED (the model does not load), NO_MEMORY, RUNTIME_CRASHED, RUNTIME_TIMEOUT,
   * RUNTIME_MISSING (onnxruntime does not load), RUNTIME_NOT_STARTED
   */
  async createSession(source: ModelSource, options: SessionOptions): Promise<Session> {
    const session = this.#nextId;
    const limited = { threads: this.#threads, ...options };
    const info = await this.#call<SessionInfo>({ kind: 'create', session, source, options: limited });
    this.#onSession?.(info, source);
    return new Session(info, {
      run: (feeds, fetches, holds) => this.#call<RunResult>({ kind: 'run', session, feeds, fetches, holds }),
      endProfiling: () => this.#call<null>({ kind: 'profile', session }),
      release: () => this.#call<null>({ kind: 'release', session }),
    });
  }

  /** Process id; undefined before the process runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
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
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    this.#end(new Error('the runtime was closed'));
    await gone;
  }

  readonly #onAbort = (): void => this.#end(this.#signal?.reason);

  async #call<T>(request: Request): Promise<T> {
    if (this.#ended !== undefined) throw this.#ended;
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      try {
        assertSendable(request);
        // One that did not start cannot be sent to, and is about to say why.
        if (this.#child?.pid !== undefined) {
          this.#child.send({ id, request }, (error) => {
            if (error) this.#breakOff(error);
          });
        }
      } catch (error) {
        reject(runtimeError(error instanceof Error ? error.message : String(error)));
        return;
      }
      if (this.#waiting.size === 0) this.#busySince = performance.now();
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
      if (this.#waiting.size === 1) this.#restartTimer();
    });
  }

  /** The channel to the process broke. How the process ended, if that is why, tells more. */
  #breakOff(cause?: Error): void {
    const broken = new WanqError('RUNTIME_CRASHED', 'the connection to the onnxruntime process broke', { cause });
    setTimeout(() => this.#end(broken), LAST_WORDS_MS).unref();
  }

  /** The process does one call after the other: each has the whole time from the answer to the one before. */
  #restartTimer(): void {
    clearTimeout(this.#timer);
    if (this.#waiting.size === 0) return;
    this.#timer = setTimeout(() => {
      const message = `onnxruntime did not answer within ${this.#timeoutMs / 1000} s`;
      this.#end(
        new WanqError('RUNTIME_TIMEOUT', message, {
          hint: `try a smaller input, or set ${TIMEOUT_VARIABLE} (seconds)`,
        }),
      );
    }, this.#timeoutMs);
  }

  #settle({ id, result, error, missing }: Reply): void {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#busyMs += performance.now() - this.#busySince;
    this.#restartTimer();
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(missing ? missingError(error) : runtimeError(error));
  }

  #end(error: unknown): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    clearTimeout(this.#timer);
    this.#child?.kill('SIGKILL');
    for (const { reject } of this.#waiting.values()) reject(error);
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
   * @throws WanqError RUNTIME_FAILED, NO_MEMORY, RUNTIME_CRASHED, RUNTIME_TIMEOUT
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
