import { expect } from 'vitest';
import type { HostTensor } from '../../../src/runtime/tensor.js';

/** Largest deviation relative to the largest expected magnitude. */
export function relativeDeviation(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let largest = 0;
  let deviation = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i] as number));
    deviation = Math.max(deviation, Math.abs((actual[i] as number) - (expected[i] as number)));
  }
  return deviation / largest;
}

/** Per-column extremes of `[rows, channels]` values. */
export function channelExtremes(values: Float32Array, channels: number): { min: Float32Array; max: Float32Array } {
  const min = new Float32Array(channels).fill(Number.POSITIVE_INFINITY);
  const max = new Float32Array(channels).fill(Number.NEGATIVE_INFINITY);
  values.forEach((x, i) => {
    const channel = i % channels;
    min[channel] = Math.min(min[channel] as number, x);
    max[channel] = Math.max(max[channel] as number, x);
  });
  return { min, max };
}

export function floats(outputs: Readonly<Record<string, HostTensor>>, name: string): Float32Array {
  const tensor = outputs[name];
  if (tensor?.dtype !== 'float32') throw new Error(`${name} is ${tensor?.dtype ?? 'missing'}, not float32`);
  return tensor.data;
}
