import { expect, it } from 'vitest';
import { missingError } from '../../../src/runtime/missing.js';

it.each([
  [
    "Cannot find package 'onnxruntime-node' imported from /x/worker.js",
    'onnxruntime-node is not installed',
    'install wanq again',
  ],
  [
    "Cannot find module 'onnxruntime-common'\nRequire stack:\n- /x",
    'onnxruntime-common is not installed',
    'install wanq again',
  ],
  [
    "Cannot find module '../bin/napi-v6/darwin/x64/onnxruntime_binding.node'\nRequire stack:",
    'has no library for',
    'install script of the package brings CUDA only',
  ],
  ["/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /x)", 'needs GLIBC_2.38', 'newer'],
  ["/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", 'needs GLIBCXX_3.4.32', 'newer'],
  ['Error loading shared library ld-linux-x86-64.so.2: No such file or directory', 'built for glibc', 'Alpine'],
  ['Error relocating /x/libonnxruntime.so.1: __memcpy_chk: symbol not found', 'built for glibc', 'Alpine'],
  ['libonnxruntime.so.1: cannot open shared object file: No such file or directory', 'incomplete', 'install again'],
  ['/x/onnxruntime_binding.node: invalid ELF header', 'damaged, or that of another machine', 'on this machine'],
  ["dlopen(/x): tried: '/x' (mach-o file, but is an incompatible architecture)", 'another machine', 'on this machine'],
  ['The specified module could not be found.\n\\\\?\\C:\\x', 'is not there', 'Visual C++'],
  ['something \u001b[31melse\n', 'onnxruntime did not load: something else', 'wanq doctor'],
])('%j', (said, what, hint) => {
  const error = missingError(said);
  expect(error).toMatchObject({ code: 'RUNTIME_MISSING', exitCode: 4, message: expect.stringContaining(what) });
  expect(error.hint).toContain(hint);
  expect(error.hint).toContain('wanq doctor');
});
