import type { HostTensor } from './tensor.js';

/** Where a session's graph comes from. */
export type ModelSource =
  | { readonly path: string }
  /** An encoded model whose external data lies in `folder`. */
  | { readonly bytes: Uint8Array; readonly folder: string };

/** A graph input: data, or a tensor that an earlier run left in the runtime's process. */
export type Feed = HostTensor | { readonly held: string };

export type OptimizationLevel = 'disabled' | 'basic' | 'extended' | 'all';

export interface SessionOptions {
  /** Execution providers in the order to try them. The first that takes the model is used. */
  readonly providers: readonly string[];
  readonly optimization?: OptimizationLevel;
  /** Writes the graph as onnxruntime optimized it, to see which kernels it chose. */
  readonly optimizedModelPath?: string;
  /** Beginning of the file that a profile of all runs is written to, when the session is asked for it. */
  readonly profilePrefix?: string;
  /** Of the CPU provider; absent: what WANQ_RUNTIME_THREADS says, or onnxruntime's choice (physical cores). */
  readonly threads?: number | undefined;
  /**
   * false: weights are used where they lie, mapped from their file, and not copied into the layout the kernels like best. Without this a
   * model takes up to twice its size; with it, products of few rows get slower.
   */
  readonly prepack?: boolean;
  /** false: no memory plan from the first run on, which on changing shapes costs more than it saves. */
  readonly memoryPattern?: boolean;
}

/** What a session turned out to be. */
export interface SessionInfo {
  readonly provider: string;
  /** Providers that were tried before and why each refused. */
  readonly refused: readonly { readonly provider: string; readonly reason: string }[];
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

export type Request =
  | {
      readonly kind: 'create';
      readonly session: number;
      readonly source: ModelSource;
      readonly options: SessionOptions;
    }
  | {
      readonly kind: 'run';
      readonly session: number;
      readonly feeds: Readonly<Record<string, Feed>>;
      readonly fetches: readonly string[];
      /** Outputs to leave in the process, and the key each is held under. */
      readonly holds: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'drop'; readonly keys: readonly string[] }
  | { readonly kind: 'profile'; readonly session: number }
  | { readonly kind: 'release'; readonly session: number }
  | { readonly kind: 'status' };

export interface RunResult {
  readonly outputs: Readonly<Record<string, HostTensor>>;
  /** Wall time of the run inside the worker, ms. */
  readonly ms: number;
  /** Largest resident set of the worker so far, bytes. */
  readonly peakBytes: number;
}

export interface WorkerStatus {
  readonly runtimeVersion: string;
  readonly backends: readonly string[];
  /** Largest resident set of the worker so far, bytes. */
  readonly peakBytes: number;
}

export interface Reply {
  readonly id: number;
  readonly result?: SessionInfo | RunResult | WorkerStatus | null;
  readonly error?: string;
  /** Whether onnxruntime itself did not load. */
  readonly missing?: boolean;
}

/** Bytes of data in one message. Node 20 ends the process that gets 2^31 bytes, with an exception that nobody can catch. */
const MAX_MESSAGE_BYTES = 2e9;

/** @throws Error where data is more than one message between the processes can hold */
export function assertFits(data: Iterable<Uint8Array | HostTensor['data']>, what: string): void {
  let bytes = 0;
  for (const { byteLength } of data) bytes += byteLength;
  if (bytes > MAX_MESSAGE_BYTES) {
    throw new Error(
      `${what} of ${bytes} bytes, where at most ${MAX_MESSAGE_BYTES} can be passed to the process and back`,
    );
  }
}

/** @throws Error where a request is more than one message can hold */
export function assertSendable(request: Request): void {
  if (request.kind === 'create' && 'bytes' in request.source) assertFits([request.source.bytes], 'a graph');
  if (request.kind === 'run') {
    assertFits(
      Object.values(request.feeds).flatMap((feed) => ('data' in feed ? [feed.data] : [])),
      'inputs',
    );
  }
}
