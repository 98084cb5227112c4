/** A thread that converts tiles: arithmetic goes on here while the main thread reads and writes. */
import { parentPort } from 'node:worker_threads';
import type { PoolMessage } from './pool.js';
import { runTile } from './tile.js';

parentPort?.on('message', ({ task, slot }: PoolMessage) => {
  parentPort?.postMessage(runTile(task, slot.input, slot.output));
});
