import { execFile } from 'node:child_process';

const TIME_LIMIT_MS = 20_000;

export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  /** Why it did not end well; undefined where it did. */
  readonly failure: string | undefined;
}

/** Runs a program without a shell. Never throws. */
export function runProgram(
  file: string,
  args: readonly string[],
  { signal, cwd }: { readonly signal: AbortSignal; readonly cwd?: string },
): Promise<Ended> {
  return new Promise((resolve) => {
    try {
      execFile(
        file,
        args,
        {
          signal,
          timeout: TIME_LIMIT_MS,
          killSignal: 'SIGKILL',
          windowsHide: true,
          ...(cwd === undefined ? {} : { cwd }),
        },
        (error, stdout, stderr) => {
          const ended = error && (error.signal ? `ended by ${error.signal}` : String(error.code ?? error.message));
          resolve({ stdout, stderr, failure: error ? (ended ?? 'failed') : undefined });
        },
      );
    } catch (error) {
      resolve({ stdout: '', stderr: '', failure: (error as NodeJS.ErrnoException).code ?? String(error) });
    }
  });
}
