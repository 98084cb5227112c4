import { describe, expect, it } from 'vitest';
import { runtimeTimeoutMs } from '../../../src/runtime/timeout.js';

describe('WANQ_RUNTIME_TIMEOUT', () => {
  it.each([
    [undefined, 3_600_000],
    ['', 3_600_000],
    ['90', 90_000],
    [' 0.5 ', 500],
    ['0.0001', 1],
    ['2147483', 2_147_483_000],
  ])('%j is %d ms', (text, ms) => {
    expect(runtimeTimeoutMs({ WANQ_RUNTIME_TIMEOUT: text })).toBe(ms);
  });

  it.each(['0', '-1', '1h', '1e3', 'NaN', 'Infinity', '2147484', '1 2', '\u001b[31m5'])('refuses %j', (text) => {
    expect(() => runtimeTimeoutMs({ WANQ_RUNTIME_TIMEOUT: text })).toThrow(
      expect.objectContaining({
        code: 'USAGE',
        message: expect.stringMatching(/^WANQ_RUNTIME_TIMEOUT is "[ -~]*"$/),
      }),
    );
  });
});
