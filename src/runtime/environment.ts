import { printable, WanqError } from '../errors.js';

/** Seconds that one call of onnxruntime may take. */
export const TIMEOUT_VARIABLE = 'WANQ_RUNTIME_TIMEOUT';

/** Threads of onnxruntime's CPU provider. */
const THREADS_VARIABLE = 'WANQ_RUNTIME_THREADS';

/** A full 5B forward on a laptop takes many minutes. */
const DEFAULT_SECONDS = 60 * 60;

/** Node's timers fire at once beyond 2^31 - 1 ms. */
const MAX_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/** onnxruntime starts as many as it is told to; no machine has more cores. */
const MAX_THREADS = 1024;

type Env = Readonly<Record<string, string | undefined>>;

/** What the environment says of how onnxruntime runs. */
export interface RuntimeEnvironment {
  /** The longest that one call of onnxruntime may take, ms. */
  readonly timeoutMs: number;
  /** Threads of the CPU provider; undefined: onnxruntime's choice. */
  readonly threads: number | undefined;
}

/** @throws WanqError USAGE where the environment asks for something that is no time or no number of threads */
export function runtimeEnvironment(env: Env): RuntimeEnvironment {
  const seconds = read(env, TIMEOUT_VARIABLE, /^\d+(\.\d+)?$/, MAX_SECONDS, 'seconds', 'an hour') ?? DEFAULT_SECONDS;
  const threads = read(env, THREADS_VARIABLE, /^\d+$/, MAX_THREADS, 'a whole number', "onnxruntime's choice");
  return { timeoutMs: Math.max(1, seconds * 1000), threads };
}

function read(env: Env, name: string, form: RegExp, most: number, what: string, otherwise: string): number | undefined {
  const text = env[name]?.trim() ?? '';
  if (text === '') return undefined;
  const value = form.test(text) ? Number(text) : Number.NaN;
  if (value > 0 && value <= most) return value;
  throw new WanqError('USAGE', `${name} is "${printable(text, 40)}"`, {
    hint: `give ${what}, more than 0 and at most ${most}, or leave it unset for ${otherwise}`,
  });
}
