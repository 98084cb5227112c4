import { CommanderError } from 'commander';
import { ExitCode, fromSystemError, fromUncaughtSystemError, printable, WanqError } from '../errors.js';
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
  try {
    await makeProgram(io, interrupts.signal, outcome).parseAsync(argv, { from: 'user' });
    if (unwritten) throw fromSystemError(unwritten, 'standard output');
    return outcome.code;
  } catch (error) {
    return report(fromUncaughtSystemError(error), io);
  } finally {
    // The listener stays: that a pipe was closed is told after the last write.
    interrupts.release();
  }
}

function report(error: unknown, io: Io): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  if (error instanceof WanqError) {
    const hint = error.hint === undefined ? '' : `: ${error.hint}`;
    io.stderr.write(`wanq: ${printable(`${error.message}${hint}`, 1000)} [${error.code}]\n`);
    return error.exitCode;
  }
  const text = error instanceof Error ? error.message : String(error);
  io.stderr.write(`wanq: unexpected error: ${printable(text)} [INTERNAL]\n`);
  if (io.env.WANQ_DEBUG) io.stderr.write(`${error instanceof Error ? error.stack : text}\n`);
  else io.stderr.write('this is a bug in wanq; WANQ_DEBUG=1 shows where\n');
  return ExitCode.runtime;
}
