import { describe, expect, it } from 'vitest';
import { runtimeEnvironment } from '../../../src/runtime/environment.js';

const refusal = (name: string) =>
  expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(`^${name} is "[ -~]*"$`) });

describe('WANQ_RUNTIME_TIMEOUT', () => {
  it.each([
    [undefined, 3_600_000],
    ['', 3_600_000],
    ['90', 90_000],
    [' 0.5 ', 500],
    ['0.0001', 1],
    ['2147483', 2_147_483_000],
  ])('%j is %d ms', (text, ms) => {
    expect(runtimeEnvironment({ WANQ_RUNTIME_TIMEOUT: text }).timeoutMs).toBe(ms);
  });

  it.each(['0', '-1', '1h', '1e3', 'NaN', 'Infinity', '2147484', '1 2', '\u001b[31m5'])('refuses %j', (text) => {
    expect(() => runtimeEnvironment({ WANQ_RUNTIME_TIMEOUT: text })).toThrow(refusal('WANQ_RUNTIME_TIMEOUT'));
  });
});

describe('WANQ_RUNTIME_THREADS', () => {
  it.each([
    [undefined, undefined],
    [' ', undefined],
    ['1', 1],
    [' 64 ', 64],
    ['1024', 1024],
  ])('%j is %s', (text, threads) => {
    expect(runtimeEnvironment({ WANQ_RUNTIME_THREADS: text }).threads).toBe(threads);
  });

  it.each(['0', '-1', '1.5', '1e2', '0x4', 'all', '1025', '99999999999999999999'])('refuses %j', (text) => {
    expect(() => runtimeEnvironment({ WANQ_RUNTIME_THREADS: text })).toThrow(refusal('WANQ_RUNTIME_THREADS'));
  });
});
