import { WanqError } from '../errors.js';
import { plainText, saysNoMemory } from './failures.js';

const BROKE = 'the model or a driver broke onnxruntime: check where the model is from, or use another --device';

const TOO_OLD = 'this CPU may lack instructions that onnxruntime needs: `wanq doctor` shows what it has';

const SIGNAL_HINTS: Readonly<Record<string, string>> = {
  SIGKILL: 'often too little memory: close other programs or use a smaller input',
  SIGSEGV: BROKE,
  SIGABRT: BROKE,
  SIGFPE: BROKE,
  SIGBUS: `${BROKE}; a weights file that shrinks while it is read ends like this too`,
  SIGILL: TOO_OLD,
  SIGXCPU: 'raise the limit of CPU time (ulimit -t)',
  SIGXFSZ: 'raise the limit of file sizes (ulimit -f)',
};

/** Windows has exit codes where others have signals. */
const STATUS_HINTS: ReadonlyMap<number, readonly [name: string, hint: string]> = new Map([
  [0xc0000005, ['access violation', BROKE]],
  [0xc0000409, ['abort', BROKE]],
  [0xc0000374, ['heap corruption', BROKE]],
  [0xc00000fd, ['stack overflow', BROKE]],
  [0xc000001d, ['illegal instruction', TOO_OLD]],
  [0xc0000017, ['no memory', SIGNAL_HINTS.SIGKILL as string]],
  [0xc0000135, ['a library was not found', 'run `wanq doctor`']],
]);

/** What the end of the process that held onnxruntime means. @param said what it wrote to stderr at last */
export function endError(code: number | null, signal: NodeJS.Signals | null, said: string): WanqError {
  const status = code === null ? undefined : STATUS_HINTS.get(code >>> 0);
  const how = signal ? `was ended by ${signal}` : `ended with code ${code}${status ? ` (${status[0]})` : ''}`;
  const last = lastWords(said);
  const message = `the onnxruntime process ${how}${last === '' ? '' : `: ${last}`}`;
  // An allocation that nobody catches aborts the process.
  if (saysNoMemory(said)) {
    return new WanqError('NO_MEMORY', message, { hint: 'use a smaller input or close other programs' });
  }
  const hint = signal ? SIGNAL_HINTS[signal] : status?.[1];
  return new WanqError('RUNTIME_CRASHED', message, hint === undefined ? {} : { hint });
}

/** The line of its last ones that says most. */
function lastWords(said: string): string {
  const lines = said.split(/[\r\n]+/).map((line) => plainText(line, 160));
  const full = lines.filter((line) => line !== '' && !/^(at |\^|Node\.js v)/.test(line));
  return full.findLast((line) => /error|what\(\)|fatal|terminate|assert/i.test(line)) ?? full.at(-1) ?? '';
}

const SPAWN_HINTS: Readonly<Record<string, string>> = {
  EMFILE: 'too many files are open: raise the limit (ulimit -n)',
  ENFILE: 'too many files are open on this machine: close other programs',
  EAGAIN: 'too many processes: end some, or raise the limit (ulimit -u, or that of the container)',
  EACCES: 'check that Node itself may be executed',
};

/** Why the process that is to hold onnxruntime did not start. */
export function startError(error: unknown): WanqError {
  const { code = '', message } = error as NodeJS.ErrnoException;
  const what = `the onnxruntime process did not start: ${plainText(message ?? String(error), 160)}`;
  if (code === 'ENOMEM') return new WanqError('NO_MEMORY', what, { cause: error, hint: 'close other programs' });
  if (code === 'MODULE_NOT_FOUND') {
    return new WanqError('RUNTIME_MISSING', what, { cause: error, hint: 'install wanq again' });
  }
  const hint = SPAWN_HINTS[code];
  return new WanqError('RUNTIME_NOT_STARTED', what, { cause: error, ...(hint === undefined ? {} : { hint }) });
}
