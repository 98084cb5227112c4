import { describe, expect, it } from 'vitest';
import { runtimeError } from '../../../src/runtime/failures.js';

describe('a text of onnxruntime', () => {
  it.each([
    ['std::bad_alloc', 'NO_MEMORY'],
    ['bad allocation', 'RUNTIME_FAILED'],
    ['Failed to allocate memory for requested buffer of size 4398046511104', 'NO_MEMORY'],
    ['CUDA failure 2: out of memory ; GPU=0 ; hostname=x', 'NO_MEMORY'],
    ['CUBLAS_STATUS_ALLOC_FAILED', 'NO_MEMORY'],
    ['VK_ERROR_OUT_OF_DEVICE_MEMORY', 'NO_MEMORY'],
    ['Exception(1) tid(2) 8007000E Not enough memory resources', 'NO_MEMORY'],
    ['WebGPU device lost (1): Device was destroyed.', 'RUNTIME_FAILED'],
    ['887A0005 The GPU device instance has been suspended', 'RUNTIME_FAILED'],
    ['CUDA failure 700: an illegal memory access was encountered', 'RUNTIME_FAILED'],
    ['no available backend found. ERR: [dml] backend not found.', 'PROVIDER_UNAVAILABLE'],
    ['Invalid rank for input: x', 'RUNTIME_FAILED'],
  ])('%s means %s', (text, code) => {
    expect(runtimeError(text).code).toBe(code);
  });

  it('of a lost device says what to do, and one of a bad model does not', () => {
    expect(runtimeError('WebGPU device lost (1)')).toMatchObject({ hint: expect.stringContaining('--device cpu') });
    expect(runtimeError('Invalid rank').hint).toBeUndefined();
  });

  it('is one line without colours, control characters and places in the sources', () => {
    const said =
      '\u001b[1;31mStatus Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 12\n\u0007';
    expect(runtimeError(said).message).toBe(
      'onnxruntime has too little memory: Status Message: Failed to allocate memory for requested buffer of size 12',
    );
  });

  it('keeps the reason where the place has no signature, as on Windows', () => {
    const said = 'D:\\a\\core\\arena.cc:376 onnxruntime::Arena::Allocate Out of room (of 3) now';
    expect(runtimeError(said).message).toBe(`onnxruntime: ${said}`);
  });

  it('that quotes a whole model is cut', () => {
    expect(runtimeError(`/x.cc:1 ${'('.repeat(1e6)}`).message.length).toBeLessThan(300);
  });
});
