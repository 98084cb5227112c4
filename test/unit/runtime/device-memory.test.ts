import { expect, it } from 'vitest';
import { DeviceMemory, memoryOf } from '../../../src/runtime/device-memory.js';

const SMI = '1234, 2048\n99, 512\n1234, 1024\n';

it('sums what nvidia-smi says of a process over all devices', () => {
  expect(memoryOf(1234, SMI)).toBe(3072 * 2 ** 20);
  expect(memoryOf(99, SMI)).toBe(512 * 2 ** 20);
});

it.each(['', 'No devices were found\n', '1234, [N/A]\n', '12345, 7\n'])('has nothing of a process in %j', (text) => {
  expect(memoryOf(1234, text)).toBeNull();
});

it('looks at no process whose provider uses the memory of the host', () => {
  const memory = new DeviceMemory();
  memory.watch('cpu', process.pid);
  memory.watch('cuda', undefined);
  expect(memory.stop()).toBeNull();
});
