/** Process exit codes. One meaning each, so that CI can tell a failed gate from a crash. */
export const ExitCode = {
  ok: 0,
  gateFailed: 1,
  usage: 2,
  model: 3,
  runtime: 4,
  io: 5,
  interrupted: 130,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Every error wanq reports on purpose, with the exit code it ends the process with. */
const EXIT_BY_CODE = {
  USAGE: ExitCode.usage,
  CONFIG_INVALID: ExitCode.usage,
  PROMPTS_EMPTY: ExitCode.usage,
  PATTERN_UNMATCHED: ExitCode.usage,
  PLAN_INVALID: ExitCode.usage,
  WEIGHTS_INVALID: ExitCode.usage,
  OUTPUT_EXISTS: ExitCode.usage,
  RULES_INVALID: ExitCode.usage,
  BASELINE_INVALID: ExitCode.usage,
  RESULTS_INVALID: ExitCode.usage,
  COMPARE_MISMATCH: ExitCode.usage,
  CALIBRATION_INVALID: ExitCode.usage,
  CALIBRATION_MISMATCH: ExitCode.usage,
  SENSITIVITY_INVALID: ExitCode.usage,
  SENSITIVITY_MISMATCH: ExitCode.usage,
  CACHE_INVALID: ExitCode.usage,
  CLIPS_INVALID: ExitCode.usage,
  EMBEDDINGS_INVALID: ExitCode.usage,
  NOT_A_PIPELINE: ExitCode.model,
  PIPELINE_INVALID: ExitCode.model,
  MODEL_INVALID: ExitCode.model,
  MODEL_UNSUPPORTED: ExitCode.model,
  EXTERNAL_DATA_INVALID: ExitCode.model,
  TOKENIZER_INVALID: ExitCode.model,
  SCHEDULER_UNSUPPORTED: ExitCode.model,
  SAFETENSORS_INVALID: ExitCode.model,
  FEATURES_INVALID: ExitCode.model,
  PERCEPTUAL_INVALID: ExitCode.model,
  PROVIDER_UNAVAILABLE: ExitCode.runtime,
  RUNTIME_FAILED: ExitCode.runtime,
  RUNTIME_CRASHED: ExitCode.runtime,
  RUNTIME_TIMEOUT: ExitCode.runtime,
  RUNTIME_MISSING: ExitCode.runtime,
  RUNTIME_NOT_STARTED: ExitCode.runtime,
  NON_FINITE: ExitCode.runtime,
  NOT_FOUND: ExitCode.io,
  NOT_READABLE: ExitCode.io,
  NOT_WRITABLE: ExitCode.io,
  NO_SPACE: ExitCode.io,
  NO_MEMORY: ExitCode.io,
  LOCKED: ExitCode.io,
  IO_FAILED: ExitCode.io,
  INTERRUPTED: ExitCode.interrupted,
} as const satisfies Record<string, ExitCode>;

export type ErrorCode = keyof typeof EXIT_BY_CODE;

export interface WanqErrorOptions {
  /** How to mend it, as an imperative. */
  hint?: string;
  cause?: unknown;
}

/** A failure with a name, an exit code and a way to mend it. Anything else that is thrown is a bug in wanq. */
export class WanqError extends Error {
  override readonly name = 'WanqError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: WanqErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }

  get exitCode(): ExitCode {
    return EXIT_BY_CODE[this.code];
  }
}

/** Turns a Node file-system error into the matching {@link WanqError}; other values come back as they are. */
export function fromSystemError(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const options = { cause: error };
  switch (error.code) {
    case 'ENOENT':
      return new WanqError('NOT_FOUND', `${printable(path)} does not exist`, { ...options, hint: 'check the path' });
    case 'ENOTDIR':
    case 'EEXIST':
      return new WanqError('NOT_FOUND', `${printable(path)}: part of this path is a file, not a folder`, {
        ...options,
        hint: 'check the path',
      });
    case 'EISDIR':
      return new WanqError('NOT_READABLE', `${printable(path)} is a folder`, { ...options, hint: 'name a file' });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new WanqError('NOT_WRITABLE', `${printable(path)}: permission denied (${error.code})`, {
        ...options,
        hint: 'choose another path or change its permissions',
      });
    case 'ENOSPC':
    case 'EDQUOT':
      return new WanqError('NO_SPACE', `${printable(path)}: no space left`, {
        ...options,
        hint: 'free some space or choose another disk',
      });
    case 'EMFILE':
    case 'ENFILE':
      return new WanqError('IO_FAILED', `${printable(path)}: too many files are open (${error.code})`, {
        ...options,
        hint: 'raise the limit (ulimit -n), or close other programs',
      });
    case 'EIO':
    case 'ENXIO':
    case 'ENODEV':
    case 'ESTALE':
    case 'ETIMEDOUT':
      return new WanqError('IO_FAILED', `${printable(path)}: the disk or the network fails (${error.code})`, {
        ...options,
        hint: 'look at the system log; the disk may be failing, or a network file system gone',
      });
    default:
      return error;
  }
}

/** As {@link fromSystemError}, for an error that passed by everything that knew which file was meant. */
export function fromUncaughtSystemError(error: unknown): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  const { path, syscall, code } = error as NodeJS.ErrnoException;
  const known = fromSystemError(error, path ?? 'a file');
  if (known !== error) return known;
  return new WanqError('IO_FAILED', `${printable(path ?? 'a file')}: ${syscall} failed (${code})`, {
    cause: error,
    hint: 'look at the file system and its permissions',
  });
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being removed
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/** Makes text from a file or a native library safe for one terminal line: no control characters, bounded length. */
export function printable(text: string, maxLength = 300): string {
  const clean = text.replace(CONTROL, ' ').trim();
  return clean.length > maxLength ? `${clean.slice(0, maxLength - 1)}…` : clean;
}
