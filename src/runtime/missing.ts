import { WanqError } from '../errors.js';
import { plainText } from './failures.js';
import { libc } from './libc.js';

const DOCTOR = 'run `wanq doctor`';

interface Cause {
  readonly when: RegExp;
  readonly what: (found: RegExpMatchArray) => string;
  readonly hint: string;
}

const CAUSES: readonly Cause[] = [
  {
    when: /cannot find (?:package|module) '(onnxruntime-(?:node|common))'/i,
    what: ([, name]) => `the package ${name} is not installed`,
    hint: 'install wanq again with its dependencies',
  },
  {
    when: /cannot find module '[^']*onnxruntime_binding\.node'/i,
    what: () => `onnxruntime-node has no library for ${process.platform} ${process.arch}`,
    hint: 'use Linux x64 or arm64, Windows x64 or arm64, or a Mac with Apple silicon; the install script of the package brings CUDA only, and need not run',
  },
  {
    when: /version [`']?(GLIBC(?:XX)?_[\d.]+)'? not found/i,
    what: ([, version]) => `onnxruntime needs ${version}, and this system has ${libc() ?? 'an older libc'}`,
    hint: 'use a newer distribution or container image',
  },
  {
    when: /ld-linux-[\w-]+\.so\.\d|__\w+_chk: symbol not found|libstdc\+\+\.so\.6|libc\.musl/i,
    what: () =>
      `onnxruntime is built for glibc, and its libraries are not there; this system has ${libc() ?? 'another libc'}`,
    hint: 'on Alpine use an image of Debian, such as node:22-slim; elsewhere install libstdc++',
  },
  {
    when: /libonnxruntime[\w.]*: cannot open|library not loaded:.*libonnxruntime/i,
    what: () => 'the package onnxruntime-node is incomplete: its library is not beside its binding',
    hint: 'remove node_modules and install again',
  },
  {
    when: /invalid ELF header|file too short|wrong architecture|incompatible architecture|not a valid Win32|mach-o/i,
    what: () =>
      `the library of onnxruntime-node is damaged, or that of another machine than ${process.platform} ${process.arch}`,
    hint: 'remove node_modules and install again on this machine',
  },
  {
    when: /specified module could not be found|specified procedure could not be found/i,
    what: () => 'a library that onnxruntime needs is not there',
    hint: 'install the Microsoft Visual C++ Redistributable',
  },
];

/** Why onnxruntime did not load. @param message of the failed import */
export function missingError(message: string): WanqError {
  for (const { when, what, hint } of CAUSES) {
    const found = message.match(when);
    if (found) return new WanqError('RUNTIME_MISSING', what(found), { hint: `${hint}; ${DOCTOR}` });
  }
  return new WanqError('RUNTIME_MISSING', `onnxruntime did not load: ${plainText(message, 240)}`, { hint: DOCTOR });
}
