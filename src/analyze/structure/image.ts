import { constantTensor } from '../constants.js';
import type { Survey } from './survey.js';

const PASS = new Set(['Identity', 'Cast', 'CastLike', 'Reshape', 'Squeeze', 'Unsqueeze']);

/**
 * Whether a value is the first part of another that was cut along its tokens. Image-to-video models join an image's features and a text's,
 * and cut them apart again before cross attention.
 */
export function startsAtFirstToken(value: string, { graph, index }: Survey): boolean {
  const name = origin(value, index.producers);
  const node = index.producers.get(name);
  if (node?.opType === 'Split') return node.outputs[0] === name;
  if (node?.opType !== 'Slice') return false;
  const start = constantTensor(origin(node.inputs[1] ?? '', index.producers), graph, index);
  return start?.data.kind === 'bytes' && start.data.bytes.every((byte) => byte === 0);
}

/** The value that others only cast or reshape. */
function origin(value: string, producers: Survey['index']['producers']): string {
  let name = value;
  for (let steps = 0; steps < 16; steps++) {
    const node = producers.get(name);
    const source = node && PASS.has(node.opType) ? node.inputs[0] : undefined;
    if (source === undefined) break;
    name = source;
  }
  return name;
}
