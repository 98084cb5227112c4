import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { printable, WanqError } from '../errors.js';

export interface ScriptOptions {
  /** The script's file, for messages; absent: the first argument. */
  readonly name?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Gets each line of its stderr. */
  readonly onLine?: ((line: string) => void) | undefined;
}

/**
 * Runs a Python script to its end.
 *
 * @param python interpreter, a name in PATH or a path
 * @param args the script and its arguments
 * @throws WanqError NOT_FOUND where there is no such interpreter; RUNTIME_FAILED with the last line of its stderr; INTERRUPTED
 */
export async function runScript(
  python: string,
  args: readonly string[],
  { name = args[0] ?? python, signal, onLine }: ScriptOptions,
): Promise<void> {
  signal?.throwIfAborted();
  const child = spawn(python, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const stop = (): void => {
    child.kill('SIGTERM');
  };
  signal?.addEventListener('abort', stop);
  let last = '';
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.trim() === '') return;
    last = line;
    onLine?.(printable(line));
  });
  try {
    const ended = await new Promise<string>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, by) => resolve(code === 0 ? '' : code === null ? `by ${by}` : `with exit code ${code}`));
    });
    signal?.throwIfAborted();
    if (ended === '') return;
    throw new WanqError('RUNTIME_FAILED', `${path.basename(name)} ended ${ended}: ${printable(last)}`, {
      hint: 'mend what it names; pip install -r python/requirements.txt installs what it imports',
    });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new WanqError('NOT_FOUND', `there is no ${printable(python)} to run ${path.basename(name)} with`, {
      hint: 'install Python, or name its interpreter in the environment variable PYTHON',
      cause,
    });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
