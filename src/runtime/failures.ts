import { stripVTControlCharacters } from 'node:util';
import { printable, WanqError } from '../errors.js';

const NO_PROVIDER = /AppendExecutionProvider|WebGPU adapter|backend not found|no available backend/i;

/** What the C++ library, the allocators of the providers and their drivers say where memory ends. */
const NO_MEMORY =
  /bad[_ ]?(array_new_length|alloc)\b|failed to allocate memory|out of memory|OUT_OF_(HOST|DEVICE)?_?MEMORY|E_OUTOFMEMORY|8007000E|cudaErrorMemoryAllocation|_ALLOC_FAILED|array buffer allocation failed|invalid array buffer length/i;

const DEVICE_LOST =
  /device (was |is )?(lost|hung|removed)|DEVICE_(LOST|REMOVED|HUNG|RESET)|887A000[5-7]|illegal memory access|unspecified launch failure|cudaError(IllegalAddress|LaunchFailure|LaunchTimeout|ECCUncorrectable|DevicesUnavailable)/i;

/** Whether a text of a library says that memory ended. */
export function saysNoMemory(text: string): boolean {
  return NO_MEMORY.test(text);
}

/** Text of a native library for one line: it may hold colours, and quotes bytes of the model. */
export function plainText(text: string, maxLength: number): string {
  return printable(stripVTControlCharacters(text), maxLength);
}

/** Where in onnxruntime's sources an error arose: a file, a line and a signature, which would leave no room for the reason. */
const SOURCE_PLACE = /\/\S+\.(?:cc|cpp|cu|h):\d+ [^)]*\)(?:::<lambda\([^)]*\)>)?(?: const)?(?: \[with [^\]]*\])? /g;

/** An error can quote a whole model. */
const MAX_MESSAGE = 4096;

/** What an error that onnxruntime gave means. */
export function runtimeError(said: string): WanqError {
  const message = said.slice(0, MAX_MESSAGE);
  const text = plainText(message.replace(SOURCE_PLACE, ''), 240);
  // Before the providers: one that cannot be made for want of memory names itself too.
  if (saysNoMemory(message)) {
    return new WanqError('NO_MEMORY', `onnxruntime has too little memory: ${text}`, {
      hint: 'use a smaller input, close other programs, or use --device cpu where a GPU is too small',
    });
  }
  if (DEVICE_LOST.test(message)) {
    return new WanqError('RUNTIME_FAILED', `the device was lost: ${text}`, {
      hint: 'run it again; where it happens again, update the driver or use --device cpu',
    });
  }
  if (NO_PROVIDER.test(message)) {
    return new WanqError('PROVIDER_UNAVAILABLE', `no execution provider took the model: ${text}`, {
      hint: 'use --device cpu, or install the libraries the provider needs; `wanq doctor` says what is missing',
    });
  }
  return new WanqError('RUNTIME_FAILED', `onnxruntime: ${text}`);
}
