import { describe, expect, it } from 'vitest';
import { ExitCode, fromSystemError, printable, WanqError } from '../../src/errors.js';

describe('WanqError', () => {
  it.each([
    ['USAGE', 2],
    ['OUTPUT_EXISTS', 2],
    ['MODEL_INVALID', 3],
    ['EXTERNAL_DATA_INVALID', 3],
    ['NON_FINITE', 4],
    ['RUNTIME_CRASHED', 4],
    ['NOT_FOUND', 5],
    ['NO_SPACE', 5],
    ['INTERRUPTED', 130],
  ] as const)('%s ends the process with %i', (code, exitCode) => {
    expect(new WanqError(code, 'text').exitCode).toBe(exitCode);
  });

  it('keeps 1 for a failed gate', () => {
    expect(ExitCode.gateFailed).toBe(1);
  });

  it('carries hint and cause', () => {
    const cause = new Error('inner');
    const error = new WanqError('USAGE', 'text', { hint: 'do this', cause });
    expect(error).toMatchObject({ message: 'text', hint: 'do this', cause, name: 'WanqError' });
    expect('cause' in new WanqError('USAGE', 'text')).toBe(false);
  });
});

describe('fromSystemError', () => {
  it.each([
    ['ENOENT', 'NOT_FOUND'],
    ['ENOTDIR', 'NOT_FOUND'],
    ['EISDIR', 'NOT_READABLE'],
    ['EACCES', 'NOT_WRITABLE'],
    ['EROFS', 'NOT_WRITABLE'],
    ['ENOSPC', 'NO_SPACE'],
    ['EDQUOT', 'NO_SPACE'],
  ])('turns %s into %s and keeps it as the cause', (code, expected) => {
    const cause = Object.assign(new Error('system'), { code });
    expect(fromSystemError(cause, '/some/path')).toMatchObject({
      code: expected,
      cause,
      message: expect.stringContaining('/some/path'),
    });
  });

  it('gives everything else back as it is', () => {
    const other = Object.assign(new Error('system'), { code: 'EWEIRD' });
    const ours = new WanqError('USAGE', 'text');
    for (const value of [other, ours, new Error('plain'), 'text', undefined]) {
      expect(fromSystemError(value, 'path')).toBe(value);
    }
  });
});

describe('printable', () => {
  it.each([
    ['a\nb', 'a b'],
    ['a\r\n\tb', 'a b'],
    ['\u001b[31mred', '[31mred'],
    ['\u0000nul\u009f', 'nul'],
    ['line\u2028separator', 'line separator'],
    ['été 日本', 'été 日本'],
  ])('makes %j one line without control characters', (text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  it('bounds the length', () => {
    expect(printable('x'.repeat(10), 10)).toBe('x'.repeat(10));
    expect(printable('x'.repeat(11), 10)).toBe(`${'x'.repeat(9)}…`);
  });
});
