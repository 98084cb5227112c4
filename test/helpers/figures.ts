import { readFileSync } from 'node:fs';
import path from 'node:path';

const OF_ONE_RUN = ['latency_ratio', 'memory_ratio'];

/** Results of a report folder without what is of one run alone: when it was, how long it took and how much memory. */
export function figuresOf(folder: string): unknown {
  const text = readFileSync(path.join(folder, 'results.json'), 'utf8');
  const { createdAt: _, timing: _timing, devices: _devices, ...results } = JSON.parse(text);
  for (const model of [results.reference, results.quantized]) Object.assign(model, { peakBytes: 0, forwardMs: 0 });
  const metrics = Object.entries(results.metrics).filter(([name]) => !OF_ONE_RUN.includes(name));
  return { ...results, metrics };
}
