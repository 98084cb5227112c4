import { CommanderError } from 'commander';
import { ExitCode, fromSystemError, printable, printableLines, WanqError } from '../errors.js';
import { catchInterrupts, type Io } from './context.js';
import { makeProgram } from './program.js';

/**
 * Runs the command line.
 * @param argv arguments after `node wanq`
 * @returns the exit code; never throws, and ends the process itself on a second Ctrl-C only
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const interrupts = catchInterrupts(io);
  const outcome: { code: number } = { code: ExitCode.ok };
  let unwritten: Error | undefined;
  const onOutputError = (error: NodeJS.ErrnoException): void => {
    // A closed pipe (`wanq ... | head`) is the reader's choice, not an error.
    if (error.code !== 'EPIPE') unwritten ??= error;
  };
  io.stdout.on('error', onOutputError);
  // Where it cannot be said, nothing can be said about that: the exit code stays.
  if (!io.stderr.listeners('error').includes(ignore)) io.stderr.on('error', ignore);
  try {
    await makeProgram(io, interrupts.signal, outcome).parseAsync(argv, { from: 'user' }).catch(passHelp);
    // That a write failed is told of after it has returned.
    await new Promise((resolve) => setImmediate(resolve));
    if (unwritten) throw fromSystemError(unwritten, 'standard output');
    return outcome.code;
  } catch (error) {
    return report(error, io);
  } finally {
    // The listener stays: that a pipe was closed is told after the last write.
    interrupts.release();
  }
}

function ignore(): void {}

/** Help and the version that were asked for are thrown too. */
function passHelp(thrown: unknown): void {
  if (!(thrown instanceof CommanderError && thrown.exitCode === 0)) throw thrown;
}

function report(thrown: unknown, io: Io): number {
  if (thrown instanceof CommanderError) return ExitCode.usage;
  const error = asOurs(thrown);
  if (error instanceof WanqError) {
    const hint = error.hint === undefined ? '' : `: ${error.hint}`;
    io.stderr.write(printableLines(`wanq: ${printable(`${error.message}${hint}`, 1000)} [${error.code}]\n`));
    return error.exitCode;
  }
  const text = error instanceof Error ? error.message : String(error);
  io.stderr.write(printableLines(`wanq: unexpected error: ${printable(text)} [INTERNAL]\n`));
  if (io.env.WANQ_DEBUG) io.stderr.write(printableLines(`${error instanceof Error ? error.stack : text}\n`));
  else io.stderr.write('this is a bug in wanq; WANQ_DEBUG=1 shows where\n');
  return ExitCode.runtime;
}

/** What the system refused is no bug of wanq, even where nobody foresaw it. */
function asOurs(error: unknown): unknown {
  if (error instanceof RangeError && /allocation failed|out of memory/i.test(error.message)) {
    return new WanqError('NO_MEMORY', 'there is not enough memory', {
      hint: 'close other programs or use a smaller input',
      cause: error,
    });
  }
  const { path, syscall } = (error ?? {}) as Partial<NodeJS.ErrnoException>;
  return fromSystemError(error, path ?? syscall ?? 'the system');
}
