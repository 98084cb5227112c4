import { describe, expect, it } from 'vitest';
import { ExitCode, fromSystemError, printable, printableJson, printableLines, WanqError } from '../../src/errors.js';

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
    ['EFBIG', 'NO_SPACE'],
    ['ENAMETOOLONG', 'NOT_FOUND'],
    ['ELOOP', 'NOT_FOUND'],
    ['ENXIO', 'NOT_READABLE'],
    ['ENODEV', 'NOT_READABLE'],
    ['ENOTEMPTY', 'NOT_WRITABLE'],
    ['EBUSY', 'NOT_WRITABLE'],
    ['ETXTBSY', 'NOT_WRITABLE'],
    ['ENOMEM', 'NO_MEMORY'],
    ['EMFILE', 'IO_FAILED'],
    ['ENFILE', 'IO_FAILED'],
    ['EIO', 'IO_FAILED'],
  ])('turns %s into %s and keeps it as the cause', (code, expected) => {
    const cause = Object.assign(new Error('system'), { code });
    expect(fromSystemError(cause, '/some/path')).toMatchObject({
      code: expected,
      cause,
      message: expect.stringContaining('/some/path'),
    });
  });

  it.each(['EINVAL', 'EWEIRD', 'ENOTSUP'])('calls %s of the system a failure of files, by its name', (code) => {
    const cause = Object.assign(new Error('system'), { code, errno: -22, syscall: 'open' });
    expect(fromSystemError(cause, '/some/path')).toMatchObject({
      code: 'IO_FAILED',
      exitCode: ExitCode.io,
      cause,
      message: expect.stringMatching(new RegExp(`/some/path.*${code}`)),
    });
  });

  it('gives everything else back as it is', () => {
    const other = Object.assign(new Error('ours'), { code: 'ERR_ASSERTION' });
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
    ['emoji 😀 stay', 'emoji 😀 stay'],
    ['\u202eevil\u202c', '\\u202eevil\\u202c'],
    ['\u2066iso\u2069', '\\u2066iso\\u2069'],
    ['zero\u200bwidth\ufeff', 'zero\\u200bwidth\\ufeff'.replace('\\ufeff', '')],
    ['soft\u00adhyphen', 'soft\\u00adhyphen'],
    ['tag\u{e0041}s', 'tag\\udb40\\udc41s'],
    ['fill\u3164er', 'fill\\u3164er'],
    ['half \ud800 pair', 'half \\ud800 pair'],
  ])('makes %j one line without control characters', (text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  it('bounds the length', () => {
    expect(printable('x'.repeat(10), 10)).toBe('x'.repeat(10));
    expect(printable('x'.repeat(11), 10)).toBe(`${'x'.repeat(9)}…`);
  });

  it('cuts no character in half', () => {
    expect(printable(`${'x'.repeat(8)}😀😀`, 10)).toBe(`${'x'.repeat(8)}…`);
  });
});

describe('printableLines', () => {
  it.each([
    ['one\n\ttwo\n', 'one\n\ttwo\n'],
    ['\u001b[31mred\u0007', ' [31mred '],
    ['over\rwritten', 'over written'],
    ['::error::stop', ': :error::stop'],
    ['a\n  ::set-output name=x::y', 'a\n  : :set-output name=x::y'],
    ['a\r::error::x', 'a ::error::x'],
    ['\u0085::error::x', ' : :error::x'],
    ['\u00a0::error::x', '\u00a0: :error::x'],
    ['a std::vector', 'a std::vector'],
    ['a ##[error]x', 'a ## [error]x'],
    ['\u202e', '\\u202e'],
  ])('makes of %j lines that command nothing', (text, shown) => {
    expect(printableLines(text)).toBe(shown);
  });
});

describe('printableJson', () => {
  it('keeps every value, and shows nothing raw', () => {
    const value = { '##[error]': '\u001b[31m\u009b\u2028\u202e\u200b\u{e0041}\ud800 été 😀', list: ['::error::x'] };
    const json = printableJson(JSON.stringify(value, null, 2));
    expect(JSON.parse(json)).toEqual(value);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what is looked for
    expect(json).not.toMatch(/[\u001b\u009b\u2028\p{Cf}\p{Cs}]|##\[|^\s*::/mu);
    expect(json).toContain('été 😀');
    expect(json).toContain('\n  "list"');
  });
});
