import { expect, it } from 'vitest';
import { countNodes } from '../../../src/runtime/placement.js';

const node = (name: string, provider: string) => ({ cat: 'Node', name, args: { provider } });

it('counts each node once, whatever else a profile holds', () => {
  const events = [
    { cat: 'Session', name: 'model_run', args: {} },
    node('a_kernel_time', 'WebGpuExecutionProvider'),
    node('a_kernel_time', 'WebGpuExecutionProvider'),
    node('b_kernel_time', 'CPUExecutionProvider'),
    node('c_kernel_time', 'WebGpuExecutionProvider'),
    { cat: 'Node', name: 'd_fence_before' },
  ];
  expect(countNodes(JSON.stringify(events))).toEqual({ WebGpuExecutionProvider: 2, CPUExecutionProvider: 1 });
});

it.each([
  ['nothing', ''],
  ['a name with a quote, as onnxruntime writes it', '[{"cat":"Node","name":"a"b","args":{"provider":"X"}}]'],
  ['a name that brings keys of its own', '[{"cat":"Node","name":"a","args":{"provider":"X"},"args":{"provider":"Y"}}]'],
  ['another kind of file', '{"cat":"Node"}'],
])('counts nothing where a profile holds %s', (_, text) => {
  expect(countNodes(text)).toBeNull();
});
