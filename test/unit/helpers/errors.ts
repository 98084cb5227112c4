import { expect } from 'vitest';
import { type ErrorCode, WanqError } from '../../../src/errors.js';

/** The WanqError that a call throws; anything else it throws comes through. */
export function thrownBy(call: () => unknown): WanqError {
  try {
    call();
  } catch (error) {
    if (error instanceof WanqError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

export function expectRefusal(call: () => unknown, code: ErrorCode): void {
  expect(thrownBy(call).code).toBe(code);
}

export async function expectRejection(promise: Promise<unknown>, code: ErrorCode): Promise<WanqError> {
  const error = await promise.then(
    () => undefined,
    (thrown) => thrown,
  );
  expect(error).toMatchObject({ name: 'WanqError', code });
  return error as WanqError;
}
