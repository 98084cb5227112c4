import { printableJson, printableLines, WanqError } from '../errors.js';

type Signal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

/** What a command may touch of the process it runs in. `process` itself fits. */
export interface Io {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
  cwd(): string;
  on(event: Signal, listener: () => void): unknown;
  off(event: Signal, listener: () => void): unknown;
}

/** One run of a command: its streams, and the signal that ends it. What is printed may hold names from files: it passes {@link printableLines}. */
export interface Context {
  readonly io: Io;
  readonly signal: AbortSignal;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly json: boolean;
  /** Prints to stdout: results, nothing else. */
  print(text: string): void;
  /** Prints a line for people to stderr, unless --quiet. */
  say(text: string): void;
  /** Prints a line to stderr with --verbose. */
  detail(text: string): void;
}

export function createContext(
  io: Io,
  signal: AbortSignal,
  flags: Pick<Context, 'quiet' | 'verbose' | 'json'>,
): Context {
  return {
    io,
    signal,
    ...flags,
    print: (text) => {
      io.stdout.write(`${flags.json ? printableJson(text) : printableLines(text)}\n`);
    },
    say: (text) => {
      if (!flags.quiet) io.stderr.write(`${printableLines(text)}\n`);
    },
    detail: (text) => {
      if (flags.verbose) io.stderr.write(`${printableLines(text)}\n`);
    },
  };
}

/** Turns Ctrl-C, SIGTERM and SIGHUP into an abort, said at once; a second one ends the process without waiting for anything. */
export function catchInterrupts(io: Io): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const abort = (): void => {
    io.stderr.write('\ninterrupted: stopping\n');
    controller.abort(new WanqError('INTERRUPTED', 'interrupted'));
  };
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(130);
    abort();
  };
  // A terminal that closes sends it more than once, and nobody is there to be impatient.
  const onHangup = (): void => {
    if (!controller.signal.aborted) abort();
  };
  io.on('SIGINT', onSignal);
  io.on('SIGTERM', onSignal);
  io.on('SIGHUP', onHangup);
  return {
    signal: controller.signal,
    release: () => {
      io.off('SIGINT', onSignal);
      io.off('SIGTERM', onSignal);
      io.off('SIGHUP', onHangup);
    },
  };
}
