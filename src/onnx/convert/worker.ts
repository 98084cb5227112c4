/** A thread that converts tiles: arithmetic goes on here while the main thread reads and writes. */
import { parentPort } from 'node:worker_threads';
import type { PoolMessage, PoolReply } from './pool.js';
import { runTile } from './tile.js';

parentPort?.on('message', ({ task, slot }: PoolMessage) => {
  const reply: PoolReply = { result: runTile(task, slot.input, slot.output), slot };
  parentPort?.postMessage(reply, [slot.input, slot.output]);
});
