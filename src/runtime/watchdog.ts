/**
 * Ends the process that holds onnxruntime when its parent is gone. A thread of its own, since a run blocks the event loop that would be told of
 * it: an orphan in the middle of a long run would hold the machine's cores and memory to the run's end.
 */
import { workerData } from 'node:worker_threads';

const INTERVAL_MS = 1000;

const { parent } = workerData as { parent: number };

function orphaned(): boolean {
  // An orphan gets another parent, except on Windows.
  if (process.platform !== 'win32') return process.ppid !== parent;
  try {
    process.kill(parent, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

setInterval(() => {
  if (orphaned()) process.kill(process.pid, 'SIGKILL');
}, INTERVAL_MS);
