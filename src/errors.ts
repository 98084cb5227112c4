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

/** What a system error means for somebody who named a path: code, what follows the path, how to mend it. */
const SYSTEM_ERRORS: Readonly<Record<string, readonly [code: ErrorCode, what: string, hint: string]>> = {
  ENOENT: ['NOT_FOUND', ' does not exist', 'check the path'],
  ENOTDIR: ['NOT_FOUND', ': part of this path is a file, not a folder', 'check the path'],
  EEXIST: ['NOT_FOUND', ': part of this path is a file, not a folder', 'check the path'],
  ENAMETOOLONG: ['NOT_FOUND', ': the name is too long for the file system', 'choose a shorter one'],
  ELOOP: ['NOT_FOUND', ': its symbolic links lead in a circle or are too many', 'name the file itself'],
  EISDIR: ['NOT_READABLE', ' is a folder', 'name a file'],
  ENXIO: ['NOT_READABLE', ' is a device or pipe that nothing serves', 'name a file'],
  ENODEV: ['NOT_READABLE', ' is a device or pipe that nothing serves', 'name a file'],
  EACCES: ['NOT_WRITABLE', ': permission denied (EACCES)', 'choose another path or change its permissions'],
  EPERM: ['NOT_WRITABLE', ': permission denied (EPERM)', 'choose another path or change its permissions'],
  EROFS: ['NOT_WRITABLE', ': permission denied (EROFS)', 'choose another path or change its permissions'],
  ENOTEMPTY: ['NOT_WRITABLE', ' is a folder with something in it', 'name another output'],
  EBUSY: ['NOT_WRITABLE', ' is in use by the system or another program', 'wait for it, or choose another path'],
  ETXTBSY: ['NOT_WRITABLE', ' is a program that runs', 'choose another path'],
  EFBIG: ['NO_SPACE', ': larger than the file system or a limit on file sizes allows', 'choose another disk'],
  ENOSPC: ['NO_SPACE', ': no space left', 'free some space or choose another disk'],
  EDQUOT: ['NO_SPACE', ': no space left', 'free some space or choose another disk'],
  ENOMEM: ['NO_MEMORY', ': the system has no memory left', 'close other programs'],
  EMFILE: ['IO_FAILED', ': this process has too many files open', 'raise the limit (ulimit -n)'],
  ENFILE: ['IO_FAILED', ': the system has too many files open', 'close other programs'],
  EIO: ['IO_FAILED', ': the disk or the network failed (EIO)', 'check the disk, and try again'],
};

/** Turns a system error of Node into the matching {@link WanqError}, one that is not listed into IO_FAILED; other values come back as they are. */
export function fromSystemError(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || error instanceof WanqError || !('code' in error)) return error;
  const { code, errno } = error as NodeJS.ErrnoException;
  const options = { cause: error };
  const known = SYSTEM_ERRORS[String(code)];
  if (known) return new WanqError(known[0], `${printable(path)}${known[1]}`, { ...options, hint: known[2] });
  if (code === 'ERR_INVALID_ARG_VALUE' && error.message.includes('null bytes')) {
    return new WanqError('NOT_FOUND', `${printable(path)}: a path cannot hold a NUL`, {
      ...options,
      hint: 'check the path',
    });
  }
  if (typeof errno !== 'number') return error;
  return new WanqError('IO_FAILED', `${printable(path)}: the system refuses (${printable(String(code), 40)})`, {
    ...options,
    hint: 'check the path and the disk it lies on',
  });
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being removed
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/**
 * What is not seen, or changes what is: bidirectional controls (CVE-2021-42574), zero-width and other format characters, fillers that look
 * empty, halves of surrogate pairs. What stands in the brackets of a regular expression with the flag `u`.
 */
export const UNSEEN_CLASS = String.raw`\p{Cf}\p{Cs}\u115f\u1160\u3164\uffa0`;

const UNSEEN = new RegExp(`[${UNSEEN_CLASS}]`, 'gu');

/** Makes text from a file or a native library safe for one terminal line: no control characters, nothing invisible, bounded length. */
export function printable(text: string, maxLength = 300): string {
  // Only the beginning is looked at where somebody named a tensor with a megabyte.
  const clean = text
    .slice(0, 16 * maxLength)
    .replace(CONTROL, ' ')
    .trim();
  const cut = clean.length > maxLength ? `${clean.slice(0, maxLength - 1).replace(/[\ud800-\udbff]$/, '')}…` : clean;
  return cut.replace(UNSEEN, escaped);
}

/** The `\uXXXX` of each UTF-16 unit, as JSON has it. */
export function escaped(text: string): string {
  let units = '';
  for (let i = 0; i < text.length; i++) units += `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`;
  return units;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const CONTROL_IN_LINES = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]/g;

/**
 * Makes lines for people safe for a terminal and the log of a CI job: as {@link printable}, but lines and tabs stay. GitHub's runner takes `::name` at the
 * beginning of a line for a command, after white space too, and `##[name]` wherever it stands.
 */
export function printableLines(text: string): string {
  return text
    .replace(CONTROL_IN_LINES, ' ')
    .replace(UNSEEN, escaped)
    .replace(/^(\s*):(?=:)/gm, '$1: ')
    .replaceAll('##[', '## [');
}

const RAW_IN_JSON = new RegExp(`${CONTROL_IN_LINES.source}|${UNSEEN.source}`, 'gu');

/** The same for JSON, whose values stay what they are: what is not shown is escaped. */
export function printableJson(json: string): string {
  return json.replace(RAW_IN_JSON, escaped).replaceAll('##[', '#\\u0023[');
}
