import { describe, expect, it } from 'vitest';
import { endError, startError } from '../../../src/runtime/ends.js';

describe('the end of the process', () => {
  it.each([
    ['SIGKILL', 'too little memory'],
    ['SIGSEGV', 'broke onnxruntime'],
    ['SIGABRT', 'broke onnxruntime'],
    ['SIGBUS', 'shrinks while it is read'],
    ['SIGILL', 'this CPU may lack instructions'],
  ] as const)('by %s is named, with a hint', (signal, hint) => {
    expect(endError(null, signal, '')).toMatchObject({
      code: 'RUNTIME_CRASHED',
      exitCode: 4,
      message: `the onnxruntime process was ended by ${signal}`,
      hint: expect.stringContaining(hint),
    });
  });

  it('by another signal or with a code is told without a guess', () => {
    expect(endError(null, 'SIGUSR2', '').hint).toBeUndefined();
    expect(endError(7, null, '')).toMatchObject({
      message: 'the onnxruntime process ended with code 7',
      hint: undefined,
    });
  });

  it.each([
    [0xc0000005, 'ended with code 3221225477 (access violation)'],
    [0xc000001d | 0, '(illegal instruction)'],
  ])('with a status of Windows, %d, says what it stands for', (code, text) => {
    expect(endError(code, null, '')).toMatchObject({
      message: expect.stringContaining(text),
      hint: expect.any(String),
    });
  });

  it('with its last words has the line that says most', () => {
    const trace =
      'node:internal:1\n\u001b[31mError: Cannot find module x\u001b[0m\n    at a (b.js:1)\n    at c\n\nNode.js v20.20.2\n';
    expect(endError(1, null, trace).message).toBe(
      'the onnxruntime process ended with code 1: Error: Cannot find module x',
    );
    expect(endError(1, null, 'first\nlast\n').message).toMatch(/: last$/);
  });

  it('for want of memory is NO_MEMORY', () => {
    const words = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n";
    expect(endError(null, 'SIGABRT', words)).toMatchObject({ code: 'NO_MEMORY', exitCode: 5 });
    const heap = 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory';
    expect(endError(null, 'SIGABRT', heap).code).toBe('NO_MEMORY');
  });
});

describe('a process that does not start', () => {
  it.each([
    ['EAGAIN', 'RUNTIME_NOT_STARTED', 'ulimit -u'],
    ['EMFILE', 'RUNTIME_NOT_STARTED', 'ulimit -n'],
    ['ENOMEM', 'NO_MEMORY', 'close other programs'],
    ['MODULE_NOT_FOUND', 'RUNTIME_MISSING', 'install wanq again'],
  ])('for %s', (code, expected, hint) => {
    const error = Object.assign(new Error(`spawn node ${code}`), { code });
    expect(startError(error)).toMatchObject({
      code: expected,
      message: expect.stringContaining(`spawn node ${code}`),
      hint: expect.stringContaining(hint),
    });
  });
});
