import type { HostTensor } from './tensor.js';

/** Where a session's graph comes from. */
export type ModelSource =
  | { readonly path: string }
  /** An encoded model whose external data lies in `folder`. */
  | { readonly bytes: Uint8Array; readonly folder: string };

export type OptimizationLevel = 'disabled' | 'basic' | 'extended' | 'all';

export interface SessionOptions {
  /** Execution providers in the order to try them. The first that takes the model is used. */
  readonly providers: readonly string[];
  readonly optimization?: OptimizationLevel;
  /** Writes the graph as onnxruntime optimized it, to see which kernels it chose. */
  readonly optimizedModelPath?: string;
  /** 0 or absent: onnxruntime's choice (physical cores). */
  readonly threads?: number;
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
      readonly feeds: Readonly<Record<string, HostTensor>>;
      readonly fetches: readonly string[];
    }
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
}
