import { printable, WanqError } from '../errors.js';

/** Seconds that one call of onnxruntime may take. */
export const TIMEOUT_VARIABLE = 'WANQ_RUNTIME_TIMEOUT';

/** A full 5B forward on a laptop takes many minutes. */
const DEFAULT_SECONDS = 60 * 60;

/** Node's timers fire at once beyond 2^31 - 1 ms. */
const MAX_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/**
 * @returns the longest that one call of onnxruntime may take, ms
 * @throws WanqError USAGE where the environment asks for something that is no time
 */
export function runtimeTimeoutMs(env: Readonly<Record<string, string | undefined>>): number {
  const text = env[TIMEOUT_VARIABLE]?.trim() ?? '';
  if (text === '') return DEFAULT_SECONDS * 1000;
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds > 0 && seconds <= MAX_SECONDS) return Math.max(1, seconds * 1000);
  throw new WanqError('USAGE', `${TIMEOUT_VARIABLE} is "${printable(text, 40)}"`, {
    hint: `give seconds, more than 0 and at most ${MAX_SECONDS}, or leave it unset for an hour`,
  });
}
