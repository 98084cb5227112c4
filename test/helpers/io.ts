import { Writable } from 'node:stream';
import type { Io } from '../../src/cli/context.js';

/** What `main` of the command line gets when a test runs it in its own process, and what it has said there so far. */
export function capturedIo(
  cwd: () => string = process.cwd,
  env: Io['env'] = {},
): { readonly io: Io; readonly said: { stdout: string; stderr: string } } {
  const said = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof said): Writable =>
    new Writable({
      write(chunk, _, done) {
        said[name] += chunk;
        done();
      },
    });
  const io = { stdout: stream('stdout'), stderr: stream('stderr'), env, cwd, on: () => {}, off: () => {} };
  return { io, said };
}
