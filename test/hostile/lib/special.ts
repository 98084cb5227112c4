import { execFileSync } from 'node:child_process';
import { renameSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

export function makeFifo(file: string): void {
  execFileSync('mkfifo', [file]);
}

/** A file of a socket that nobody listens to. */
export async function makeSocket(file: string): Promise<void> {
  // Its path must be short, and it goes when the server is closed: made elsewhere, and moved.
  const made = path.join(tmpdir(), `s${process.pid}`);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(made, resolve));
  renameSync(made, file);
  await new Promise((resolve) => server.close(resolve));
}

/** A device that gives zeros without an end; a FIFO where only root could make one. */
export function makeNode(file: string): void {
  try {
    execFileSync('mknod', [file, 'c', '1', '5'], { stdio: 'ignore' });
  } catch {
    makeFifo(file);
  }
}
